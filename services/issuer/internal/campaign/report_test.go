package campaign

import (
	"strings"
	"testing"
)

// What others have named, and what CAs have to say, stays a cell of its table.
func TestMarkdown_KeepsForeignTextsInTheirPlace(t *testing.T) {
	r := Report{
		Campaign:    Campaign{ID: "cmp-1", Status: Stopped, Settings: Settings{Name: "a\n# b <script>"}, Counts: Counts{Total: 1, Failed: 1}},
		Owners:      []Tally{{Of: "o-1", Name: "x | y"}},
		FailedItems: []Item{{CertificateID: "mc-1", Reason: "no\r\n| such `thing`"}},
		Failures:    []Reason{{Reason: "no\nway", Count: 1}},
	}
	var out strings.Builder
	if err := r.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`# Campaign a # b &lt;script>`, `| o-1, x \| y |`, `no  \| such 'thing' |`, `- 1: no way`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}
