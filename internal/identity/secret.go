package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"pratique.dev/pratique/internal/catalog"
)

// Two kinds of secrets are kept, told apart by how they look.
//
// Generated secrets are 256 random bits. Nobody can try 2^256 of them, so the hash
// that is kept need not be slow: SHA-256 of it says nothing that helps, and a pull
// with Basic credentials costs no 40 ms of argon2id.
//
// Chosen secrets, such as an operator writes into a file, may be weak. They are kept
// as argon2id (RFC 9106) with the parameters that OWASP's Password Storage Cheat
// Sheet gives as its minimum: 19 MiB, two passes, one lane.
const (
	secretPrefix = "pratique_"
	secretDigits = 43 // of base 62, enough for 256 bits
	minChosen    = 12 // characters of a chosen secret
	argonMemory  = 19 * 1024
	argonTime    = 2
	argonLanes   = 1
	argonKey     = 32
	argonSalt    = 16
)

// The first bytes of a kept hash name its kind.
var (
	kindGenerated = []byte("sha256$")
	kindChosen    = []byte("argon2id$19456$2$1$")
)

// NewSecret makes a secret of 256 random bits, recognisable by its prefix so that
// scanners for leaked secrets find it.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	digits := new(big.Int).SetBytes(b[:]).Text(62)
	return secretPrefix + strings.Repeat("0", secretDigits-len(digits)) + digits
}

// isGenerated says whether a secret has the form that NewSecret gives.
func isGenerated(s string) bool {
	digits, ok := strings.CutPrefix(s, secretPrefix)
	if !ok || len(digits) != secretDigits {
		return false
	}
	for i := range len(digits) {
		c := digits[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// checkChosen refuses a secret that is too short to keep guessers out, or that HTTP
// Basic credentials cannot carry (RFC 7617, section 2).
func checkChosen(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case n < minChosen:
		return fmt.Errorf("%w: it has %d characters, at least %d are needed; leave it out to have one made", ErrWeakSecret, n, minChosen)
	case len(s) > maxSecret:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrWeakSecret, len(s), maxSecret)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: it holds control characters or is not UTF-8 (one line end at the end of a file is cut off, more are not)", ErrWeakSecret)
	case strings.HasPrefix(s, secretPrefix) && !isGenerated(s):
		return fmt.Errorf("%w: it begins with %s but is not as pratique made it; was a part lost in copying?", ErrWeakSecret, secretPrefix)
	}
	for _, r := range s {
		if r != rune(s[0]) {
			return nil
		}
	}
	return fmt.Errorf("%w: it is one character repeated", ErrWeakSecret)
}

func hashGenerated(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return append(bytes.Clone(kindGenerated), sum[:]...)
}

// Hashed is s with the hash of a secret that NewSecret made, as it is kept.
func Hashed(secret string, s catalog.Secret) catalog.Secret {
	s.Kind, s.Hash = catalog.SecretPassword, hashGenerated(secret)
	return s
}

func hashChosen(s string) []byte {
	var salt [argonSalt]byte
	rand.Read(salt[:]) // never fails (crypto/rand)
	return argon(s, salt[:])
}

func argon(s string, salt []byte) []byte {
	out := append(bytes.Clone(kindChosen), salt...)
	return append(out, argon2.IDKey([]byte(s), salt, argonTime, argonMemory, argonLanes, argonKey)...)
}

// matches returns which of the kept hashes is the secret's, -1 if none is. The work depends
// on the form of the secret and the number of hashes of that kind, where none counts as one.
func (i *Identity) matches(ctx context.Context, secret string, kept []catalog.Secret) (int, error) {
	found := -1
	if isGenerated(secret) {
		h := hashGenerated(secret)
		for n, k := range kept {
			found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(h, k.Hash), n, found)
		}
		return found, nil
	}
	slow := map[int][]byte{}
	for n, k := range kept {
		if bytes.HasPrefix(k.Hash, kindChosen) && len(k.Hash) == len(kindChosen)+argonSalt+argonKey {
			slow[n] = k.Hash
		}
	}
	if len(slow) == 0 {
		slow[-1] = make([]byte, len(kindChosen)+argonSalt+argonKey)
	}
	select {
	case i.line <- struct{}{}:
		defer func() { <-i.line }()
	default:
		return -1, ErrBusy
	}
	select {
	case i.slow <- struct{}{}:
		defer func() { <-i.slow }()
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	for n, k := range slow {
		salt := k[len(kindChosen) : len(kindChosen)+argonSalt]
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(argon(secret, salt), k), n, found)
	}
	return found, nil
}

// rememberedAs is the name under which a checked secret is remembered: a keyed hash,
// so that neither the secret nor anything that helps to guess it lies in memory.
func (i *Identity) rememberedAs(name, secret string) string {
	text := make([]byte, 0, 256)
	text = append(append(append(append(text, i.cacheKey[:]...), name...), 0), secret...)
	sum := sha256.Sum256(text)
	return string(sum[:])
}
