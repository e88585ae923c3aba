package export

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

// Visitor is told what stands in a file, in its order. The first error ends the reading.
type Visitor interface {
	Checkpoint(c *chain.Checkpoint) error
	Row(r *Row) error
}

var (
	document = regexp.MustCompile(`^(\xef\xbb\xbf)?\s*\{\s*"(checkpoints|data)"`)
	object   = regexp.MustCompile(`^(\xef\xbb\xbf)?\s*\{`)
)

// Read reads a file of any format, whose beginning tells which it is.
func Read(r io.Reader, v Visitor) error {
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(256)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the export: %w", err)
	}
	switch {
	case document.Match(start):
		return readDocument(json.NewDecoder(in), v)
	case object.Match(start):
		return readLines(json.NewDecoder(in), v)
	default:
		return readCSV(in, v)
	}
}

func readLines(d *json.Decoder, v Visitor) error {
	for {
		var line struct {
			checkpointLine
			row
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return broken(err)
		}
		if err := visit(v, line.Checkpoint, &line.row); err != nil {
			return err
		}
	}
}

func visit(v Visitor, c *Checkpoint, r *row) error {
	if c != nil {
		checkpoint, err := c.read()
		if err != nil {
			return err
		}
		return v.Checkpoint(&checkpoint)
	}
	read, err := r.read()
	if err != nil {
		return err
	}
	return v.Row(&read)
}

// broken is what is wrong with a file that ends before its end or is none of ours.
func broken(err error) error {
	return fmt.Errorf("the export is cut off or is not one: %w", err)
}

func readDocument(d *json.Decoder, v Visitor) error {
	if err := expect(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return broken(err)
		}
		switch name {
		case "checkpoints":
			err = elements(d, func() error {
				var c Checkpoint
				if err := d.Decode(&c); err != nil {
					return broken(err)
				}
				return visit(v, &c, nil)
			})
		case "data":
			err = elements(d, func() error {
				var r row
				if err := d.Decode(&r); err != nil {
					return broken(err)
				}
				return visit(v, nil, &r)
			})
		default:
			var other json.RawMessage
			err = d.Decode(&other)
		}
		if err != nil {
			return err
		}
	}
	return expect(d, '}')
}

func elements(d *json.Decoder, each func() error) error {
	if err := expect(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := each(); err != nil {
			return err
		}
	}
	return expect(d, ']')
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return broken(err)
	}
	if got != want {
		return broken(fmt.Errorf("%v stands where %v belongs", got, want))
	}
	return nil
}

func readCSV(in *bufio.Reader, v Visitor) error {
	head, err := record(in)
	if err != nil || !slices.Equal(head, columns) {
		return broken(errors.Join(errors.New("it is neither JSON nor CSV with the right header"), err))
	}
	for {
		cells, err := record(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return broken(err)
		}
		for i := range cells {
			cells[i] = original(cells[i])
		}
		r, err := fromCells(cells)
		if err != nil {
			return broken(err)
		}
		if err := visit(v, nil, &r); err != nil {
			return err
		}
	}
}

// record reads one record of CSV as RFC 4180 has it. Package encoding/csv does not keep
// a carriage return before a line feed, which a hash may be over.
func record(in *bufio.Reader) ([]string, error) {
	var cells []string
	var cell []byte
	quoted, closed := false, false
	for n := 0; ; n++ {
		b, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && quoted:
			return nil, io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF) && n > 0:
			return append(cells, string(cell)), nil
		case err != nil:
			return nil, err
		case quoted && b == '"':
			quoted, closed = false, true
		case quoted:
			cell = append(cell, b)
		case closed && b == '"':
			// A doubled quote within a quoted cell.
			cell = append(cell, b)
			quoted, closed = true, false
		case b == '"' && len(cell) == 0:
			quoted = true
		case b == ',':
			cells, cell, closed = append(cells, string(cell)), nil, false
		case b == '\n':
			return append(cells, string(cell)), nil
		case b == '\r' && (closed || next(in) == '\n'):
			// The end of a line as some programs write it.
		default:
			cell = append(cell, b)
		}
	}
}

func next(in *bufio.Reader) byte {
	b, err := in.Peek(1)
	if err != nil {
		return 0
	}
	return b[0]
}
