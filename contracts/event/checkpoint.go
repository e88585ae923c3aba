package event

import "strconv"

// CheckpointSigned tells what the end of the audit chain was at a time, signed. Whoever
// keeps it can tell later whether anything before it was rewritten: its fields are those
// of a checkpoint in the API, so certctl admin audit verify --checkpoints takes it as it is.
type CheckpointSigned struct {
	// Sequence is the event up to which the chain is signed.
	Sequence int64 `json:"sequence"`
	// Hash is that event's, in lower-case hex.
	Hash string `json:"hash"`
	// SignedAt is RFC 3339 in UTC with six digits of fraction, as it is signed.
	SignedAt string `json:"signed_at"`
	// KeyID is the SHA-256 of the public key in DER, in lower-case hex.
	KeyID string `json:"key_id"`
	// Signature is Ed25519, in base64.
	Signature string `json:"signature"`
}

// About implements [Event].
func (e CheckpointSigned) About() (string, string, string) {
	return "checkpoint", strconv.FormatInt(e.Sequence, 10), "signed"
}
