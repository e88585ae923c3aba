package export

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

// Writer writes a file: checkpoints, then rows, then Close.
type Writer interface {
	Checkpoint(c *chain.Checkpoint) error
	Row(r *Row) error
	// Close writes the end. It closes nothing else.
	Close() error
}

// NewWriter returns a writer of a file of the format.
func NewWriter(w io.Writer, f Format) Writer {
	buffered := bufio.NewWriterSize(w, 64<<10)
	if f == CSV {
		return &csvWriter{csv: csv.NewWriter(buffered), out: buffered}
	}
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	if f == JSONL {
		return &lineWriter{lines: lines, out: buffered}
	}
	return &documentWriter{lines: lines, out: buffered}
}

type csvWriter struct {
	csv    *csv.Writer
	out    *bufio.Writer
	headed bool
}

func (w *csvWriter) Checkpoint(*chain.Checkpoint) error { return nil }

func (w *csvWriter) head() error {
	if w.headed {
		return nil
	}
	w.headed = true
	return w.csv.Write(columns)
}

func (w *csvWriter) Row(r *Row) error {
	line := written(r)
	cells := line.cells()
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	return errors.Join(w.head(), w.csv.Write(cells))
}

func (w *csvWriter) Close() error {
	err := w.head()
	w.csv.Flush()
	return errors.Join(err, w.csv.Error(), w.out.Flush())
}

// formula are the beginnings of cells that spreadsheets calculate, and the apostrophe by
// which they are kept from it: one that was there before is kept apart from ours.
const formula = "=+-@\t\r'"

func harmless(cell string) string {
	if cell != "" && strings.ContainsRune(formula, rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func original(cell string) string { return strings.TrimPrefix(cell, "'") }

type lineWriter struct {
	lines *json.Encoder
	out   *bufio.Writer
}

// checkpointLine tells a checkpoint from a row.
type checkpointLine struct {
	Checkpoint *Checkpoint `json:"checkpoint"`
}

func (w *lineWriter) Checkpoint(c *chain.Checkpoint) error {
	shown := Shown(c)
	return w.lines.Encode(checkpointLine{&shown})
}

func (w *lineWriter) Row(r *Row) error { return w.lines.Encode(written(r)) }

func (w *lineWriter) Close() error { return w.out.Flush() }

// documentWriter writes {"checkpoints":[...],"data":[...]}, one element a line.
type documentWriter struct {
	lines *json.Encoder
	out   *bufio.Writer
	begun bool
	// inData and any tell which list is open and whether it has an element.
	inData, any bool
}

func (w *documentWriter) text(s string) error {
	_, err := w.out.WriteString(s)
	return err
}

func (w *documentWriter) element(v any) error {
	var err error
	if w.any {
		err = w.text(",")
	}
	w.any = true
	return errors.Join(err, w.lines.Encode(v))
}

func (w *documentWriter) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	return w.text(`{"checkpoints":[` + "\n")
}

func (w *documentWriter) data() error {
	err := w.begin()
	if w.inData {
		return err
	}
	w.inData, w.any = true, false
	return errors.Join(err, w.text(`],"data":[`+"\n"))
}

func (w *documentWriter) Checkpoint(c *chain.Checkpoint) error {
	return errors.Join(w.begin(), w.element(Shown(c)))
}

func (w *documentWriter) Row(r *Row) error { return errors.Join(w.data(), w.element(written(r))) }

func (w *documentWriter) Close() error {
	return errors.Join(w.data(), w.text("]}\n"), w.out.Flush())
}
