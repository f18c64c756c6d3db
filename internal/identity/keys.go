package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"pratique.dev/pratique/internal/catalog"
)

const (
	signingKeys = "identity.signing-keys" // setting: a JWK set (RFC 7517), the newest key first
	algorithm   = jose.ES256

	// Keys are read again after keysAge, and when a token names one that is not known, but not
	// more often than every keysAgain. A new key is published for keysAge before it signs,
	// so that every replica knows it by then.
	keysAge   = 30 * time.Second
	keysAgain = time.Second
)

// keys are the registry's own. The zero keys have none.
type keys struct {
	list []signingKey // newest first
	read time.Time
}

// signingKey is a key of the set, with when it was made.
type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
	created time.Time
	signer  jose.Signer
}

// storedKey is how a key is kept: a JWK with a member of ours.
type storedKey struct {
	jose.JSONWebKey
	created int64
}

// MarshalJSON implements json.Marshaler.
func (k storedKey) MarshalJSON() ([]byte, error) {
	raw, err := k.JSONWebKey.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	members["created"] = k.created
	return json.Marshal(members)
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *storedKey) UnmarshalJSON(b []byte) error {
	var members struct {
		Created int64 `json:"created"`
	}
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	k.created = members.Created
	return k.JSONWebKey.UnmarshalJSON(b)
}

type storedKeys struct {
	Keys []storedKey `json:"keys"`
}

// signingKey returns the key that signs now.
func (i *Identity) signingKey(ctx context.Context) (jose.Signer, error) {
	now := i.o.Now()
	k, err := i.currentKeys(ctx, now, keysAge)
	if err != nil {
		return nil, err
	}
	for n, key := range k.list {
		if n == len(k.list)-1 || now.Sub(key.created) >= keysAge {
			return key.signer, nil
		}
	}
	return nil, errors.New("signing keys: there is none")
}

// verifyingKey returns the public key of an id. ErrUnauthenticated if there is none.
func (i *Identity) verifyingKey(ctx context.Context, id string) (*ecdsa.PublicKey, error) {
	for _, age := range []time.Duration{keysAge, keysAgain} {
		k, err := i.currentKeys(ctx, i.o.Now(), age)
		if err != nil {
			return nil, err
		}
		for _, key := range k.list {
			if key.id == id {
				return &key.private.PublicKey, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: key %.64q is not known", ErrUnauthenticated, id)
}

// PublicKeys is the JWK set (RFC 7517) by which tokens of this registry can be verified.
func (i *Identity) PublicKeys(ctx context.Context) (jose.JSONWebKeySet, error) {
	k, err := i.currentKeys(ctx, i.o.Now(), keysAge)
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range k.list {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &key.private.PublicKey, KeyID: key.id, Algorithm: string(algorithm), Use: "sig"})
	}
	return set, err
}

// RotateKeys has a new key sign, from keysAge on. Tokens that were signed before hold until they
// run out.
func (i *Identity) RotateKeys(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rotate(ctx, i.o.Now(), 0)
}

// currentKeys returns the keys as they were at most age ago, and rotates them when it is time to.
func (i *Identity) currentKeys(ctx context.Context, now time.Time, age time.Duration) (keys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.keys.list) > 0 && now.Sub(i.keys.read) < age && !now.Before(i.keys.read) {
		return i.keys, nil
	}
	if err := i.rotate(ctx, now, i.o.RotateKeys); err != nil {
		return keys{}, err
	}
	return i.keys, nil
}

// rotate reads the keys, and makes a new one where the newest is older than after, or there is
// none. Of several processes that do so at once one has its way. The caller holds i.mu.
func (i *Identity) rotate(ctx context.Context, now time.Time, after time.Duration) error {
	for {
		raw, err := i.cat.Setting(ctx, signingKeys)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("signing keys: %w", err)
		}
		var stored storedKeys
		if err == nil {
			if err := json.Unmarshal(raw, &stored); err != nil {
				return fmt.Errorf("signing keys, as kept in the catalog: %w", err)
			}
			k, err := readKeys(stored, now)
			if err != nil {
				return err
			}
			if now.Sub(k.list[0].created) < after {
				i.keys = k
				return nil
			}
		}
		next, err := i.withNewKey(stored, now)
		if err != nil {
			return fmt.Errorf("signing keys: %w", err)
		}
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("signing keys: %w", err)
		}
		switch err := i.cat.SwapSetting(ctx, signingKeys, raw, value); {
		case errors.Is(err, catalog.ErrConflict):
			after = max(after, time.Second) // another process has made one just now
		case err != nil:
			return fmt.Errorf("signing keys: %w", err)
		default:
			i.keys, err = readKeys(next, now)
			return err
		}
	}
}

// withNewKey puts a new key first, and drops those of which no token can be left.
func (i *Identity) withNewKey(stored storedKeys, now time.Time) (storedKeys, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return storedKeys{}, err
	}
	next := storedKeys{Keys: []storedKey{{jose.JSONWebKey{Key: private, KeyID: newID(), Algorithm: string(algorithm), Use: "sig"}, now.Unix()}}}
	// A key signs until its successor is keysAge old; its last token holds for the longer lifetime.
	outlived := now.Add(-max(i.o.Lifetime, i.o.RefreshLifetime) - 2*keysAge)
	for n, k := range stored.Keys {
		if n == 0 || time.Unix(stored.Keys[n-1].created, 0).After(outlived) {
			next.Keys = append(next.Keys, k)
		}
	}
	return next, nil
}

func readKeys(stored storedKeys, now time.Time) (keys, error) {
	k := keys{read: now}
	for _, j := range stored.Keys {
		private, ok := j.Key.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() || j.KeyID == "" {
			return keys{}, fmt.Errorf("signing keys, as kept in the catalog: key %q is no private key on P-256 with an id", j.KeyID)
		}
		options := (&jose.SignerOptions{}).WithType("JWT")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private, KeyID: j.KeyID}}, options)
		if err != nil {
			return keys{}, fmt.Errorf("signing keys: %w", err)
		}
		k.list = append(k.list, signingKey{j.KeyID, private, time.Unix(j.created, 0), signer})
	}
	if len(k.list) == 0 {
		return keys{}, errors.New("signing keys: there is none")
	}
	return k, nil
}
