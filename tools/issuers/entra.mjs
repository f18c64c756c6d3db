// entra.mjs HOST PORT: the endpoints of an Entra ID tenant, version 2.0, over oauth2-mock-server. It prints
// "listening" once it does. Applications below have other secrets or claims than they should.
import { createServer } from "node:http";
import { Events, OAuth2Issuer, OAuth2Service } from "oauth2-mock-server";

const [host, port] = process.argv.slice(2);
const tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const base = `http://${host}:${port}/${tenant}`;
const api = "api://0f6d3c5a-1111-4222-8333-9a1b2c3d4e5f"; // the resource whose tokens are asked for

// By ID: the secret, and claims that differ from the usual.
const apps = {
  "11111111-2222-3333-4444-555555555555": { secret: "right~Secret.of-the_app", claims: {} },
  "22222222-2222-3333-4444-555555555555": { secret: "right", claims: { tid: "99999999-86f1-41af-91ab-2d7cd011db47" } },
  "33333333-2222-3333-4444-555555555555": { secret: "right", claims: { azp: "11111111-2222-3333-4444-555555555555" } },
  "44444444-2222-3333-4444-555555555555": { secret: "right", claims: { aud: "api://another" } },
  "55555555-2222-3333-4444-555555555555": { secret: "right", claims: { exp: 1700000000 } },
  "66666666-2222-3333-4444-555555555555": { secret: "right", claims: { iss: `http://${host}:${port}/99999999-86f1-41af-91ab-2d7cd011db47/v2.0` } },
  "77777777-2222-3333-4444-555555555555": { secret: "right", claims: {}, throttled: true },
};
const overage = { _claim_names: { groups: "src1" }, _claim_sources: { src1: { endpoint: `${base}/users/oid/getMemberObjects` } } };

const issuer = new OAuth2Issuer();
issuer.url = `${base}/v2.0`;
await issuer.keys.generate("RS256");
const service = new OAuth2Service(issuer, {
  wellKnownDocument: `/${tenant}/v2.0/.well-known/openid-configuration`,
  token: `/${tenant}/oauth2/v2.0/token`,
  authorize: `/${tenant}/oauth2/v2.0/authorize`,
  jwks: `/${tenant}/discovery/v2.0/keys`,
});
service.on(Events.BeforeWellKnownOpenIdConfiguration, (answer) => {
  answer.body.token_endpoint = `${base}/oauth2/v2.0/token`;
  answer.body.authorization_endpoint = `${base}/oauth2/v2.0/authorize`;
  answer.body.jwks_uri = `${base}/discovery/v2.0/keys`;
});
service.on(Events.BeforeTokenSigning, (token, req) => {
  const p = token.payload;
  Object.assign(p, { tid: tenant, ver: "2.0", oid: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" });
  if (req.body.grant_type === "client_credentials") {
    const id = req.body.client_id;
    Object.assign(p, { aud: api.slice("api://".length), azp: id, azpacr: "1", sub: p.oid, roles: ["Registry.Push"] }, apps[id]?.claims);
  } else {
    Object.assign(p, { sub: "subject-of-jane", preferred_username: "jane@contoso.example", name: "Jane" }, overage);
  }
});
service.on(Events.BeforeResponse, (answer, req) => {
  if (req.body.grant_type !== "client_credentials") return;
  const app = apps[req.body.client_id];
  if (app === undefined) {
    answer.statusCode = 400;
    answer.body = { error: "unauthorized_client", error_description: "AADSTS700016: Application was not found in the directory" };
  } else if (app.throttled) {
    answer.statusCode = 429;
    answer.body = { error: "temporarily_unavailable", error_description: "AADSTS90033: A transient error has occurred" };
  } else if (app.secret !== req.body.client_secret) {
    answer.statusCode = 401;
    answer.body = { error: "invalid_client", error_description: "AADSTS7000215: Invalid client secret provided" };
  } else if (req.body.scope !== `${api}/.default`) {
    answer.statusCode = 400;
    answer.body = { error: "invalid_scope", error_description: "AADSTS70011: The provided request must include a 'scope' input parameter" };
  }
});
createServer(service.requestHandler).listen(Number(port), host, () => console.log("listening"));
