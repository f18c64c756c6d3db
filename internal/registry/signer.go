package registry

import (
	"regexp"
	"slices"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

// signatureTypes are the artifact types, or types of layers, of what notation and cosign write.
var signatureTypes = []string{
	"application/vnd.cncf.notary.signature",            // Notary Project, "Signature specification"
	"application/vnd.dev.sigstore.bundle.v0.3+json",    // Sigstore bundle
	"application/vnd.dev.cosign.simplesigning.v1+json", // cosign, "Signature specification"
}

// cosignTag is the tag under which cosign keeps signatures of a digest where it uses no referrers.
var cosignTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}\.sig$`)

// mayPut refuses a manifest to those who may push signatures alone, unless it is one: it
// signs a subject, or stands under the tag of cosign's signatures, and names no other tag.
func mayPut(by Caller, p Push, m oci.Manifest) error {
	if by.may(access.RepositoryPush, p.Repo) {
		return nil
	}
	if !by.may(access.RepositorySign, p.Repo) {
		return oci.Errorf(oci.CodeDenied, "%s has not been granted %s on %s", by.Name, access.RepositoryPush, p.Repo)
	}
	tagged := p.Reference.Tag != "" || len(p.Tags) > 0
	switch {
	case !isSignature(m):
	case m.Subject != nil && !tagged:
		return nil
	case cosignTag.MatchString(p.Reference.Tag) && len(p.Tags) == 0:
		return nil
	}
	return oci.Errorf(oci.CodeDenied, "%s has been granted %s on %s alone: signatures can be pushed, of a subject by digest or under cosign's tags; other manifests need %s",
		by.Name, access.RepositorySign, p.Repo, access.RepositoryPush)
}

func isSignature(m oci.Manifest) bool {
	if m.ArtifactType != "" && slices.Contains(signatureTypes, m.ArtifactType) {
		return true
	}
	return len(m.Layers) > 0 && !slices.ContainsFunc(m.Layers, func(l oci.Descriptor) bool { return !slices.Contains(signatureTypes, l.MediaType) })
}
