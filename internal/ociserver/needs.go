package ociserver

import "pratique.dev/pratique/internal/access"

// requests says in words what a kind of request is.
var requests = [kinds]string{
	kindPing:           "GET /v2/",
	kindToken:          "GET, POST /v2/token, /oauth2/token",
	kindCatalog:        "GET /v2/_catalog",
	kindTags:           "GET /v2/NAME/tags/list",
	kindReferrers:      "GET /v2/NAME/referrers/DIGEST",
	kindManifestGet:    "GET /v2/NAME/manifests/REFERENCE",
	kindManifestHead:   "HEAD /v2/NAME/manifests/REFERENCE",
	kindManifestPut:    "PUT /v2/NAME/manifests/REFERENCE",
	kindManifestDelete: "DELETE /v2/NAME/manifests/REFERENCE",
	kindBlobGet:        "GET /v2/NAME/blobs/DIGEST",
	kindBlobHead:       "HEAD /v2/NAME/blobs/DIGEST",
	kindBlobDelete:     "DELETE /v2/NAME/blobs/DIGEST",
	kindUploadBegin:    "POST /v2/NAME/blobs/uploads/",
	kindUploadStatus:   "GET /v2/NAME/blobs/uploads/ID",
	kindUploadAppend:   "PATCH /v2/NAME/blobs/uploads/ID",
	kindUploadFinish:   "PUT /v2/NAME/blobs/uploads/ID",
	kindUploadCancel:   "DELETE /v2/NAME/blobs/uploads/ID",

	kindExchange:            "POST /oauth2/exchange",
	kindACRCatalog:          "GET /acr/v1/_catalog",
	kindACRRepositoryGet:    "GET /acr/v1/NAME",
	kindACRRepositoryPatch:  "PATCH /acr/v1/NAME",
	kindACRRepositoryDelete: "DELETE /acr/v1/NAME",
	kindACRTags:             "GET /acr/v1/NAME/_tags",
	kindACRTagGet:           "GET /acr/v1/NAME/_tags/TAG",
	kindACRTagPatch:         "PATCH /acr/v1/NAME/_tags/TAG",
	kindACRTagDelete:        "DELETE /acr/v1/NAME/_tags/TAG",
	kindACRManifests:        "GET /acr/v1/NAME/_manifests",
	kindACRManifestGet:      "GET /acr/v1/NAME/_manifests/DIGEST",
	kindACRManifestPatch:    "PATCH /acr/v1/NAME/_manifests/DIGEST",
}

// Needs lists what each kind of request needs.
func Needs() []access.Need {
	var out []access.Need
	for k := kindUnknown + 1; k < kinds; k++ {
		ru := rules[k]
		n := access.Need{Request: requests[k], AnyOf: ru.permissions, OnRepository: len(ru.permissions) > 0}
		switch {
		case ru.public:
			n.Else = "everybody"
		case ru.anyone:
			n.Else = "whoever is logged in"
		case ru.listing:
			n.Else = "whoever is logged in sees what they may"
		}
		out = append(out, n)
	}
	return out
}
