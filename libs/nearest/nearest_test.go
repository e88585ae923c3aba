package nearest_test

import (
	"testing"

	"github.com/certctl/certctl/libs/nearest"
)

func TestName_SuggestsOnlyWhatIsNear(t *testing.T) {
	names := []string{"per_page", "page", "status", "sort"}
	for name, want := range map[string]string{
		"perpage": "per_page", "per-page": "per_page", "statu": "status", "stat": "", "colour": "", "": "", "pages": "page",
	} {
		if got := nearest.Name(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
