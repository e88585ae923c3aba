package pg

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// encodeWhole has conn encode arrays of text and of bytes, which are the columns of many rows, each in one go. pgx asks
// its type map about each element, and lets the buffer grow by a quarter at a time: an array of certificates was
// allocated and copied five times over.
func encodeWhole(conn *pgx.Conn) {
	types := conn.TypeMap()
	for _, oid := range []uint32{pgtype.TextArrayOID, pgtype.ByteaArrayOID} {
		if t, known := types.TypeForOID(oid); known {
			if array, ok := t.Codec.(*pgtype.ArrayCodec); ok {
				types.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: wholeArray{array}})
			}
		}
	}
}

// wholeArray is the codec of an array whose elements are sent as they are.
type wholeArray struct{ *pgtype.ArrayCodec }

// PlanEncode implements [pgtype.Codec].
func (c wholeArray) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case []string:
			return wholePlan[string]{c.ElementType.OID}
		case [][]byte:
			return wholePlan[[]byte]{c.ElementType.OID}
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type wholePlan[E string | []byte] struct{ element uint32 }

// Encode implements [pgtype.EncodePlan] with the format that array_recv of Postgres reads.
func (p wholePlan[E]) Encode(value any, buf []byte) ([]byte, error) {
	elements, _ := value.([]E)
	size := 5 * 4
	for _, e := range elements {
		size += 4 + len(e)
	}
	buf = slices.Grow(buf, size)
	put := binary.BigEndian.AppendUint32
	buf = put(buf, 1) // dimension
	hasNull := len(buf)
	buf = put(buf, 0)
	buf = put(buf, p.element)
	buf = put(buf, uint32(len(elements))) //nolint:gosec // a message of Postgres is smaller
	buf = put(buf, 1)                     // its lower bound
	for _, e := range elements {
		if b, isBytes := any(e).([]byte); isBytes && b == nil {
			binary.BigEndian.PutUint32(buf[hasNull:], 1)
			buf = put(buf, math.MaxUint32)
			continue
		}
		buf = put(buf, uint32(len(e))) //nolint:gosec // see above
		buf = append(buf, e...)
	}
	return buf, nil
}
