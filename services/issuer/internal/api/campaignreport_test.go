package api

import "testing"

func TestCSV_HoldsNothingThatASpreadsheetTakesForAFormula(t *testing.T) {
	for given, want := range map[string]string{
		"": "", "www.example.com": "www.example.com", "-1": "-1", "-2+3": "'-2+3", "=1+1": "'=1+1", "+1": "'+1", "@SUM(A1)": "'@SUM(A1)",
		"\tx": "'\tx", "'x": "''x",
	} {
		if got := inert(given); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}
