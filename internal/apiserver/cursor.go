package apiserver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// cursors close the places in lists where a page ends, for those who are not shown all: such a
// place is a name that they may not be shown. They are opened by the same process alone.
type cursors struct{ aead cipher.AEAD }

// closedCursor is what a closed one begins with, and no name.
const closedCursor = "~"

func newCursors() cursors {
	var key [32]byte
	rand.Read(key[:]) // never fails (crypto/rand)
	block, err := aes.NewCipher(key[:])
	if err == nil {
		var c cursors
		if c.aead, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return c
		}
	}
	panic(err) // a key of 32 bytes is right
}

func (c cursors) close(place string) string {
	if place == "" {
		return ""
	}
	return closedCursor + base64.RawURLEncoding.EncodeToString(c.aead.Seal(nil, nil, []byte(place), nil))
}

func (c cursors) open(text string) (string, error) {
	closed, ok := strings.CutPrefix(text, closedCursor)
	if !ok {
		return text, nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(closed)
	if err == nil {
		var place []byte
		if place, err = c.aead.Open(nil, nil, sealed, nil); err == nil {
			return string(place), nil
		}
	}
	return "", oci.Errorf(oci.CodePaginationInvalid, "after: expected the next of the page before; the server was started anew since, or it is another's; begin at the first page")
}
