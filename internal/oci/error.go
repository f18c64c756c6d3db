package oci

import (
	"fmt"
	"net/http"
)

// Error is a refusal in the words of the distribution specification ("Error codes").
// Doors write it; services return it where the specification's code is the plainest
// way to say what happened.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// The codes of distribution-spec 1.1, those that clients know from Docker's registry, and what
// else there is to say.
const (
	CodeBlobUnknown         = "BLOB_UNKNOWN"
	CodeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	CodeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       = "DIGEST_INVALID"
	CodeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     = "MANIFEST_INVALID"
	CodeManifestUnknown     = "MANIFEST_UNKNOWN"
	CodeNameInvalid         = "NAME_INVALID"
	CodeNameUnknown         = "NAME_UNKNOWN"
	CodeSizeInvalid         = "SIZE_INVALID"
	CodeUnauthorized        = "UNAUTHORIZED"
	CodeDenied              = "DENIED"
	CodeUnsupported         = "UNSUPPORTED"
	CodeTooManyRequests     = "TOOMANYREQUESTS"
	CodeTagInvalid          = "TAG_INVALID"
	CodeRangeInvalid        = "RANGE_INVALID"
	CodePaginationInvalid   = "PAGINATION_NUMBER_INVALID"
	CodeQueryInvalid        = "QUERY_INVALID"
	CodePrecondition        = "PRECONDITION_FAILED"
	CodeConflict            = "CONFLICT"        // with what is there; of /api/v1/ alone
	CodeInvalid             = "REQUEST_INVALID" // of /api/v1/ alone
	CodeUnavailable         = "UNAVAILABLE"
	CodeUnknown             = "UNKNOWN"
)

// Errorf makes an Error with a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is says that two Errors of the same code match, so that errors.Is(err,
// &Error{Code: CodeBlobUnknown}) asks for the code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Status is the HTTP status that goes with the code.
func (e *Error) Status() int {
	switch e.Code {
	case CodeBlobUnknown, CodeBlobUploadUnknown, CodeManifestUnknown, CodeNameUnknown:
		return http.StatusNotFound
	case CodeBlobUploadInvalid, CodeDigestInvalid, CodeManifestBlobUnknown, CodeManifestInvalid,
		CodeNameInvalid, CodeSizeInvalid, CodeTagInvalid, CodePaginationInvalid, CodeQueryInvalid, CodeInvalid:
		return http.StatusBadRequest
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeDenied:
		return http.StatusForbidden
	case CodeUnsupported:
		return http.StatusMethodNotAllowed
	case CodeRangeInvalid:
		return http.StatusRequestedRangeNotSatisfiable
	case CodeConflict:
		return http.StatusConflict
	case CodePrecondition:
		return http.StatusPreconditionFailed
	case CodeTooManyRequests:
		return http.StatusTooManyRequests
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
