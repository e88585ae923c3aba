package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

// read collects what stands in a file.
type read struct {
	Checkpoints []chain.Checkpoint
	Rows        []Row
}

func (r *read) Checkpoint(c *chain.Checkpoint) error {
	r.Checkpoints = append(r.Checkpoints, *c)
	return nil
}

func (r *read) Row(row *Row) error {
	r.Rows = append(r.Rows, *row)
	return nil
}

// nasty is text that files are prone to spoil.
var nasty = []string{
	"", "plain", "=1+1", "+1", "-1", "@SUM(A1)", "'=1", "''", "\ttab", "\rcr", "\r\nboth", "a\nb", "a\r\nb", "a\rb", "\n", `"`, `""`, `a"b`, `"a`,
	",", "a,b", " a ", "ü€😀", "<script>&\u2028\u2029", `\u0041\n\`, "/api/v1/x;y", "\ufeffbom", "0x1F", "NULL",
}

func rows() []Row {
	var out []Row
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i, text := range nasty {
		details, _ := json.Marshal(map[string]string{"text": text})
		e := chain.Event{
			Sequence: int64(i + 1), ID: "ae-1", Actor: text, ActorType: "User", Action: text, ResourceType: text, ResourceID: text,
			Details: string(details) + " ", At: at.Add(time.Duration(i) * time.Microsecond), Hash: sha256.Sum256([]byte(text)),
		}
		out = append(out, Row{Event: e, Previous: sha256.Sum256([]byte{byte(i)})})
	}
	return out
}

func checkpoint() chain.Checkpoint {
	return chain.Checkpoint{
		Head: chain.Head{Sequence: 7, Hash: sha256.Sum256([]byte("x"))}, SignedAt: time.Date(2026, 11, 23, 12, 0, 0, 1000, time.UTC),
		KeyID: sha256.Sum256([]byte("k")), Signature: bytes.Repeat([]byte{9}, 64),
	}
}

func write(t *testing.T, f Format, checkpoints []chain.Checkpoint, rows []Row) string {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, f)
	for i := range checkpoints {
		if err := w.Checkpoint(&checkpoints[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rows {
		if err := w.Row(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExport_KeepsEveryByteInEveryFormat(t *testing.T) {
	for _, f := range []Format{CSV, JSON, JSONL} {
		for name, want := range map[string]read{
			"events and a checkpoint": {[]chain.Checkpoint{checkpoint(), checkpoint()}, rows()},
			"events alone":            {nil, rows()},
			"a checkpoint alone":      {[]chain.Checkpoint{checkpoint()}, nil},
			"nothing":                 {},
		} {
			if f == CSV {
				want.Checkpoints = nil
			}
			if f == JSONL && name == "nothing" {
				continue // an empty file could be anything
			}
			var got read
			if err := Read(strings.NewReader(write(t, f, want.Checkpoints, want.Rows)), &got); err != nil {
				t.Fatalf("%s, %s: %v", f, name, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, %s:\n%s", f, name, d)
			}
		}
	}
}

func TestExport_IsWhatItsFormatSays(t *testing.T) {
	var document struct {
		Data        []map[string]any
		Checkpoints []map[string]any
	}
	if err := json.Unmarshal([]byte(write(t, JSON, []chain.Checkpoint{checkpoint()}, rows())), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Data) != len(nasty) || len(document.Checkpoints) != 1 || document.Data[0]["timestamp"] != "2026-11-23T12:00:00.000000Z" {
		t.Errorf("%+v", document)
	}
	lines := strings.Split(strings.TrimSpace(write(t, JSONL, nil, rows())), "\n")
	if len(lines) != len(nasty) {
		t.Errorf("%d lines", len(lines))
	}
	all, err := csv.NewReader(strings.NewReader(write(t, CSV, nil, rows()))).ReadAll()
	if err != nil || len(all) != len(nasty)+1 || cmp.Diff(columns, all[0]) != "" {
		t.Errorf("%d records, %v, %v", len(all), all[0], err)
	}
}

// TestCSV_HoldsNoFormula is about spreadsheets, which run what a caller was able to get
// on record.
func TestCSV_HoldsNoFormula(t *testing.T) {
	all, err := csv.NewReader(strings.NewReader(write(t, CSV, nil, rows()))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range all {
		for _, cell := range record {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("a cell begins so: %q", cell)
			}
		}
	}
}

func TestRead_RefusesWhatIsCutOffOrNotAnExport(t *testing.T) {
	for _, f := range []Format{CSV, JSON, JSONL} {
		whole := write(t, f, []chain.Checkpoint{checkpoint()}, rows())
		for _, n := range []int{1, len(whole) / 2, len(whole) - 7} {
			if err := Read(strings.NewReader(whole[:n]), &read{}); err == nil {
				t.Errorf("%s, %d of %d bytes: it went unnoticed", f, n, len(whole))
			}
		}
	}
	for _, bad := range []string{"", "x", "[]", "null", "{", `{"data":{}}`, `{"checkpoints":[1]}`, "sequence,id\n", `{"data":[{"sequence":1}]}`} {
		if err := Read(strings.NewReader(bad), &read{}); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestRead_TakesADocumentThatWasFormattedAnew(t *testing.T) {
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(write(t, JSON, []chain.Checkpoint{checkpoint()}, rows())), " ", "\t"); err != nil {
		t.Fatal(err)
	}
	var got read
	if err := Read(&pretty, &got); err != nil || len(got.Rows) != len(nasty) {
		t.Errorf("%d rows, %v", len(got.Rows), err)
	}
}

func TestReadCheckpoints_TakesAListAndOneByItself(t *testing.T) {
	c := checkpoint()
	one, err := json.Marshal(Shown(&c))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(one), `{"data":[` + string(one) + `],"total":1}`} {
		got, err := ReadCheckpoints([]byte(text))
		if d := cmp.Diff([]chain.Checkpoint{c}, got); err != nil || d != "" {
			t.Errorf("%v %s", err, d)
		}
	}
	if _, err := ReadCheckpoints([]byte(`{"sequence":1,"hash":"x"}`)); err == nil {
		t.Error("a broken one was read")
	}
}

func FuzzRead_OfCSVGivesBackWhatWasWritten(f *testing.F) {
	for _, text := range nasty {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		row := Row{Event: chain.Event{Sequence: 1, Actor: a, ResourceID: b, At: time.Unix(0, 0).UTC()}}
		var got read
		if err := Read(strings.NewReader(write(t, CSV, nil, []Row{row})), &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]Row{row}, got.Rows); d != "" {
			t.Error(d)
		}
	})
}
