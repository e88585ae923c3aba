package httpx_test

import (
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

func TestETag_IsAQuotedStrongTag(t *testing.T) {
	if got := httpx.ETag(7); got != `"7"` {
		t.Errorf("tag = %s", got)
	}
}

func TestMatch_HoldsAnUpdateToTheRevisionThatWasSeen(t *testing.T) {
	if err := httpx.Match(nil, 7); err != nil {
		t.Errorf("without a header: %v", err)
	}
	tests := []struct {
		header string
		code   fault.Code
	}{
		{"", ""},
		{" ", ""},
		{"*", ""},
		{` "7" `, ""},
		{`"6", "7"`, ""},
		{`"6","7","8"`, ""},
		{`"6"`, fault.Precondition},
		{`"77"`, fault.Precondition},
		{`7`, fault.Precondition},
		{`W/"7"`, fault.Precondition},
		{`"6, 7"`, fault.Precondition},
		{`nonsense`, fault.Precondition},
	}
	for _, tt := range tests {
		t.Run(tt.header, func(t *testing.T) {
			err := httpx.Match(&tt.header, 7)
			if got := fault.CodeOf(err); got != tt.code {
				t.Errorf("code = %q (%v), want %q", got, err, tt.code)
			}
		})
	}
}
