package pg_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

func TestArrays_ArriveAsTheyAreGiven(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	read := func(kind string, array any) string {
		return query[string](t, pool, "SELECT coalesce($1::"+kind+"[]::text, 'none')", array)
	}
	for want, got := range map[string]string{
		`{}`:                      read("text", []string{}),
		`none`:                    read("text", []string(nil)),
		`{a,"",NULL}`:             read("text", []*string{new("a"), new(""), nil}),
		`{größe,"b c","\"\\",""}`: read("text", []string{"größe", "b c", `"\`, ""}),
		`{"\\x0061","\\x",NULL}`:  read("bytea", [][]byte{{0, 'a'}, {}, nil}),
		`{"\\x62"}`:               read("bytea", [][]byte{[]byte("b")}),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = strings.Repeat("x", i)
	}
	back := query[[]string](t, pool, "SELECT $1::text[]", many)
	if diff := cmp.Diff(many, back); diff != "" {
		t.Error(diff)
	}
	// As a value whose type is not known until it is sent: text is the format then.
	if got := query[string](t, pool, "SELECT $1::text[]::text", pgx.QueryExecModeSimpleProtocol, many[:3]); got != `{"",x,xx}` {
		t.Errorf("got %s", got)
	}
}

func TestArrays_AreEncodedInOneGo(t *testing.T) {
	conn, err := newPool(t).Acquire(t.Context())
	must(t, err)
	defer conn.Release()
	elements := make([]string, 1000)
	allocations := testing.AllocsPerRun(10, func() {
		_, err := conn.Conn().TypeMap().Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, elements, nil)
		must(t, err)
	})
	if allocations > 10 {
		t.Errorf("%.0f allocations", allocations)
	}
}

// BenchmarkArrays encodes 200 elements with the type map of a pool, and with that of pgx.
func BenchmarkArrays(b *testing.B) {
	pool := newPool(b)
	conn, err := pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	for _, size := range []int{30, 4000} {
		elements := make([]string, 200)
		for i := range elements {
			elements[i] = strings.Repeat("x", size)
		}
		for of, types := range map[string]*pgtype.Map{"pool": conn.Conn().TypeMap(), "pgx": pgtype.NewMap()} {
			b.Run(fmt.Sprintf("%s/%d", of, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := types.Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, elements, make([]byte, 0, 256)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
