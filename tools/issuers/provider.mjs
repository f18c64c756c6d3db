// provider.mjs HOST PORT REDIRECT: an OpenID Connect provider for people with browsers, over oidc-provider,
// whose login page takes any name and password. It prints "listening" once it does.
import { Provider } from "oidc-provider";

const [host, port, redirect] = process.argv.slice(2);
const provider = new Provider(`http://${host}:${port}`, {
  clients: [{ client_id: "pratique", client_secret: "client-secret-of-the-tests", redirect_uris: [redirect], response_types: ["code"], grant_types: ["authorization_code"] }],
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, email: `${id}@example.com`, groups: id === "mallory" ? [] : ["developers", "everybody"] }),
  }),
  cookies: { keys: ["only for tests"] },
});
provider.listen(Number(port), host, () => console.log("listening"));
