// Package export writes the chain into files and reads them back, byte for byte: CSV, a
// JSON document, or JSON lines. What it writes holds all that the hashes are made of, so
// that an outsider can verify it; docs/operations/audit.md tells outsiders how.
//
// Checkpoints come before rows, so that a file can be verified in one pass. CSV has none.
// The package does not judge what it reads; see package proof.
package export

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

// Format is how a file is written.
type Format string

// Formats.
const (
	CSV   Format = "csv"
	JSON  Format = "json"
	JSONL Format = "jsonl"
)

// ContentType is the media type of files of this format.
func (f Format) ContentType() string {
	switch f {
	case CSV:
		return "text/csv; charset=utf-8; header=present"
	case JSONL:
		return "application/jsonl"
	default:
		return "application/json"
	}
}

// Row is an event and the hash of the one before it in the chain, which need not be in
// the file: it may hold only some events.
type Row struct {
	chain.Event
	Previous chain.Hash
}

// row is a Row as it stands in a file.
type row struct {
	Sequence     int64  `json:"sequence"`
	ID           string `json:"id"`
	Timestamp    string `json:"timestamp"`
	Actor        string `json:"actor"`
	ActorType    string `json:"actor_type"`
	Action       string `json:"action"`
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id"`
	DetailsText  string `json:"details_text"`
	PreviousHash string `json:"previous_hash"`
	Hash         string `json:"hash"`
}

// columns are the fields of a row in CSV, in the order of cells.
var columns = []string{
	"sequence", "id", "timestamp", "actor", "actor_type", "action", "resource_type", "resource_id", "details_text", "previous_hash", "hash",
}

func (r *row) cells() []string {
	return []string{
		strconv.FormatInt(r.Sequence, 10), r.ID, r.Timestamp, r.Actor, r.ActorType, r.Action, r.ResourceType, r.ResourceID,
		r.DetailsText, r.PreviousHash, r.Hash,
	}
}

func fromCells(c []string) (row, error) {
	if len(c) != len(columns) {
		return row{}, fmt.Errorf("a line has %d cells, not %d", len(c), len(columns))
	}
	sequence, err := strconv.ParseInt(c[0], 10, 64)
	if err != nil {
		return row{}, fmt.Errorf("a line has the sequence %q", c[0])
	}
	return row{sequence, c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10]}, nil
}

func written(r *Row) row {
	return row{
		r.Sequence, r.ID, chain.Time(r.At), r.Actor, r.ActorType, r.Action, r.ResourceType, r.ResourceID, r.Details,
		r.Previous.String(), r.Hash.String(),
	}
}

func (r *row) read() (Row, error) {
	out := Row{Event: chain.Event{
		Sequence: r.Sequence, ID: r.ID, Actor: r.Actor, ActorType: r.ActorType, Action: r.Action,
		ResourceType: r.ResourceType, ResourceID: r.ResourceID, Details: r.DetailsText,
	}}
	var err error
	if out.At, err = moment(r.Timestamp); err == nil {
		if out.Previous, err = hash(r.PreviousHash); err == nil {
			out.Hash, err = hash(r.Hash)
		}
	}
	if err != nil {
		return out, fmt.Errorf("event %d (%s) was changed: %w", r.Sequence, r.ID, err)
	}
	return out, nil
}

func moment(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || chain.Time(t) != text {
		return t, fmt.Errorf("%q is no time as it is recorded", text)
	}
	return t, nil
}

func hash(text string) (chain.Hash, error) {
	var h chain.Hash
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is no hash", text)
	}
	return chain.Hash(b), nil
}

// Checkpoint is a checkpoint as it stands in files and in answers.
type Checkpoint struct {
	Sequence  int64  `json:"sequence"`
	Hash      string `json:"hash"`
	SignedAt  string `json:"signed_at"`
	KeyID     string `json:"key_id"`
	Signature string `json:"signature"`
}

// Shown is a checkpoint as it is written.
func Shown(c *chain.Checkpoint) Checkpoint {
	return Checkpoint{c.Sequence, c.Hash.String(), chain.Time(c.SignedAt), c.KeyID.String(), base64.StdEncoding.EncodeToString(c.Signature)}
}

func (c *Checkpoint) read() (chain.Checkpoint, error) {
	out := chain.Checkpoint{Head: chain.Head{Sequence: c.Sequence}}
	var err error
	if out.Hash, err = hash(c.Hash); err == nil {
		if out.KeyID, err = hash(c.KeyID); err == nil {
			if out.SignedAt, err = moment(c.SignedAt); err == nil {
				out.Signature, err = base64.StdEncoding.DecodeString(c.Signature)
			}
		}
	}
	if err != nil {
		return out, fmt.Errorf("checkpoint %d was changed: %w", c.Sequence, err)
	}
	return out, nil
}

// ReadCheckpoints reads checkpoints that were kept apart: the answer to the list of
// them, or one of them by itself.
func ReadCheckpoints(text []byte) ([]chain.Checkpoint, error) {
	var kept struct {
		Data []Checkpoint `json:"data"`
		Checkpoint
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, fmt.Errorf("the file holds no checkpoints: %w", err)
	}
	if kept.Sequence != 0 {
		kept.Data = append(kept.Data, kept.Checkpoint)
	}
	out := make([]chain.Checkpoint, len(kept.Data))
	for i := range kept.Data {
		var err error
		if out[i], err = kept.Data[i].read(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
