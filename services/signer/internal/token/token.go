// Package token uses the keys of one PKCS#11 token. It opens the token when it is first needed and opens it anew when it was
// lost; it makes keys that cannot leave the token, and uses no others.
//
// A PIN that the token has refused is not tried again: a token locks itself after a few wrong ones. It is read anew with
// each attempt to log in, so a file with another PIN is enough. A restart tries once more.
package token

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
)

// Config says which token, and how to log in to it.
type Config struct {
	// Module is the path of the PKCS#11 library.
	Module string
	// Label is the token's.
	Label string
	// PINFile holds the user's PIN, in a file that nobody else may read.
	PINFile string
	// Sessions is how many operations the token is asked for at once, at least 1.
	Sessions int
	// Prefix is what the labels of keys begin with that may be used or made; others do not exist. Empty admits all.
	Prefix string
}

const (
	maxPINFile = 256
	// sessionWait is how long an operation waits for its turn.
	sessionWait = 5 * time.Second
)

// Token is a PKCS#11 token. It is safe for concurrent use.
type Token struct {
	cfg Config
	// making is held while a key is made, so that a label is given once.
	making sync.Mutex

	// mu is held for reading while the token is used, and for writing while it is opened or let go.
	mu   sync.RWMutex
	open *opened // nil while it is not open
	// refused is the digest of the PIN that the token has refused.
	refused [sha256.Size]byte
	isBad   bool
}

// opened is a token while it is logged in to.
type opened struct {
	*crypto11.Context
	// found are the keys that were looked up, by label and id. They are valid as long as the token stays open.
	found sync.Map
}

// New returns the token of a configuration, and does not touch it.
func New(cfg Config) *Token { return &Token{cfg: cfg} }

// Label is the token's label.
func (t *Token) Label() string { return t.cfg.Label }

// Check opens the token if it is not open. Its error is Unavailable and says what is wrong.
func (t *Token) Check() error {
	if err := t.hold(); err != nil {
		return err
	}
	t.mu.RUnlock()
	return nil
}

// Close logs out and unloads the library once what is under way has ended. The token may be used again after it.
func (t *Token) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.letGo()
}

// use runs f with the open token, and once more if the token was lost meanwhile.
func (t *Token) use(f func(*opened) error) error {
	for first := true; ; first = false {
		if err := t.hold(); err != nil {
			return err
		}
		used := t.open
		err := f(used)
		t.mu.RUnlock()
		if err == nil {
			return nil
		}
		if !lost(err) {
			return t.explain(err)
		}
		t.lose(used)
		if !first {
			return t.explain(err)
		}
	}
}

// hold returns without an error when the token is open and mu is held for reading.
func (t *Token) hold() error {
	for {
		t.mu.RLock()
		if t.open != nil {
			return nil
		}
		t.mu.RUnlock()
		if err := t.login(); err != nil {
			return err
		}
	}
}

// lose lets go of what was lost, unless somebody did so before.
func (t *Token) lose(used *opened) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == used {
		t.letGo()
	}
}

func (t *Token) letGo() {
	if t.open != nil {
		// Its error is always nil.
		_ = t.open.Close()
		t.open = nil
	}
}

func (t *Token) login() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil {
		return nil
	}
	pin, err := secret.ReadPrivate(t.cfg.PINFile, maxPINFile)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the signer cannot read its PIN: %s: %s", t.cfg.PINFile, reason(err))
	}
	pin = bytes.TrimRight(pin, "\r\n")
	if t.isBad && sha256.Sum256(pin) == t.refused {
		return fault.New(fault.Unavailable, "token %q has refused the PIN in %s, and the signer does not try it again, so that the token is not locked; "+
			"put the right one there", t.cfg.Label, t.cfg.PINFile)
	}
	session, err := crypto11.Configure(&crypto11.Config{
		Path: t.cfg.Module, TokenLabel: t.cfg.Label, Pin: string(pin),
		// One session stays aside to keep the login.
		MaxSessions: t.cfg.Sessions + 1, PoolWaitTimeout: sessionWait,
	})
	if err != nil {
		if isAny(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED) {
			t.refused, t.isBad = sha256.Sum256(pin), true
		}
		return t.explain(err)
	}
	t.open, t.isBad = &opened{Context: session}, false
	return nil
}

// explain says what an error of the token means to its operator.
func (t *Token) explain(err error) error {
	if _, coded := errors.AsType[*fault.Error](err); coded {
		return err
	}
	var what string
	switch {
	case isAny(err, pkcs11.CKR_PIN_LOCKED):
		what = fmt.Sprintf("token %q is locked after too many wrong PINs; its security officer has to unlock it", t.cfg.Label)
	case isAny(err, pkcs11.CKR_PIN_EXPIRED):
		what = fmt.Sprintf("the PIN of token %q has expired", t.cfg.Label)
	case isAny(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE):
		what = fmt.Sprintf("token %q refuses the PIN in %s", t.cfg.Label, t.cfg.PINFile)
	case isAny(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		what = fmt.Sprintf("token %q has no user PIN yet", t.cfg.Label)
	case absent(err):
		what = fmt.Sprintf("token %q is not present", t.cfg.Label)
	case err.Error() == "failed to create module context: failed to open module":
		what = fmt.Sprintf("the PKCS#11 module %s cannot be loaded", t.cfg.Module)
	default:
		what = fmt.Sprintf("token %q failed: %s", t.cfg.Label, reason(err))
	}
	return fault.Wrap(err, fault.Unavailable, "%s", what)
}

// absent tells that there is no such token. The library does not export its error.
func absent(err error) bool {
	return err.Error() == "could not find PKCS#11 token" ||
		isAny(err, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_SLOT_ID_INVALID)
}

// lost tells that the token has to be opened anew: it was taken out, reset, or has forgotten us.
func lost(err error) bool {
	return absent(err) || isAny(err,
		pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
		pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED)
}

// stale tells that a key is not where it was.
func stale(err error) bool {
	return isAny(err, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID)
}

func isAny(err error, codes ...pkcs11.Error) bool {
	e, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains(codes, e)
}

// reason is the innermost of an error, which says it in the fewest words.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
