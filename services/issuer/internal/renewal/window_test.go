package renewal

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func window(t testing.TB, days []string, start, end, zone string) Window {
	t.Helper()
	w, bad := ParseWindow(days, start, end, zone)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	return w
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestOpening_IsTheFirstMomentWithinAWindow(t *testing.T) {
	const berlin, newYork = "Europe/Berlin", "America/New_York"
	night := window(t, []string{"Sat"}, "22:00", "04:00", berlin)
	tests := []struct {
		name    string
		windows []Window
		from    string
		want    string
	}{
		{"none is always", nil, "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"},
		{"later today", []Window{window(t, nil, "22:00", "23:00", "")}, "2026-11-24T12:00:00Z", "2026-11-24T22:00:00Z"},
		{"within it", []Window{window(t, nil, "22:00", "23:00", "UTC")}, "2026-11-24T22:30:00Z", "2026-11-24T22:30:00Z"},
		{"its end is not in it", []Window{window(t, nil, "22:00", "23:00", "UTC")}, "2026-11-24T23:00:00Z", "2026-11-25T22:00:00Z"},
		{"on its weekday", []Window{window(t, []string{"Sunday"}, "22:00", "23:00", "UTC")}, "2026-11-24T12:00:00Z", "2026-11-29T22:00:00Z"},
		{"in its zone", []Window{window(t, nil, "01:00", "02:00", newYork)}, "2026-11-24T00:00:00Z", "2026-11-24T06:00:00Z"},
		{"over midnight, on the day after", []Window{night}, "2026-11-29T02:00:00Z", "2026-11-29T02:00:00Z"},
		{"over midnight, over", []Window{night}, "2026-11-29T03:00:00Z", "2026-12-05T21:00:00Z"},
		{"over midnight, not the night before", []Window{night}, "2026-11-28T02:00:00Z", "2026-11-28T21:00:00Z"},
		{"the same start and end is a whole day", []Window{window(t, []string{"wed"}, "00:00", "00:00", "UTC")}, "2026-11-24T12:00:00Z", "2026-11-25T00:00:00Z"},
		{"the earlier of two", []Window{night, window(t, []string{"Fri"}, "12:00", "13:00", "UTC")}, "2026-11-24T12:00:00Z", "2026-11-27T12:00:00Z"},
		// In Berlin the clocks went from 02:00 to 03:00 on 2026-03-29, and from 03:00 to 02:00 on 2026-10-25.
		{"within the skipped hour it is not there", []Window{window(t, nil, "02:15", "02:45", berlin)}, "2026-03-29T00:00:00Z", "2026-03-30T00:15:00Z"},
		{"a start that is skipped is the change", []Window{window(t, nil, "02:30", "05:00", berlin)}, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"an end that is skipped is the change", []Window{window(t, nil, "01:30", "02:30", berlin)}, "2026-03-29T00:59:59Z", "2026-03-29T00:59:59Z"},
		{"nothing behind the change", []Window{window(t, nil, "01:30", "02:30", berlin)}, "2026-03-29T01:00:00Z", "2026-03-29T23:30:00Z"},
		{"a start that comes twice is the first", []Window{window(t, nil, "02:15", "02:45", berlin)}, "2026-10-25T00:00:00Z", "2026-10-25T00:15:00Z"},
		{"an end that comes twice is the second", []Window{window(t, nil, "02:15", "02:45", berlin)}, "2026-10-25T01:40:00Z", "2026-10-25T01:40:00Z"},
		{"before the change in summer time", []Window{window(t, nil, "22:00", "23:00", berlin)}, "2026-10-24T12:00:00Z", "2026-10-24T20:00:00Z"},
		{"after the change in winter time", []Window{window(t, nil, "22:00", "23:00", berlin)}, "2026-10-25T12:00:00Z", "2026-10-25T21:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Opening(tt.windows, at(t, tt.from))
			if want := at(t, tt.want); !ok || !got.Equal(want) {
				t.Errorf("opens at %s, %t; want %s", got, ok, want)
			}
		})
	}
}

func TestParseWindow_SaysWhatIsWrong(t *testing.T) {
	for name, call := range map[string]func() (Window, int){
		"weekdays": func() (Window, int) {
			w, bad := ParseWindow([]string{"Sat", "Someday", "Satan"}, "1:00", "02:00", "")
			return w, len(bad) - 1
		},
		"start": func() (Window, int) { w, bad := ParseWindow(nil, "25:00", "02:00", ""); return w, len(bad) },
		"end":   func() (Window, int) { w, bad := ParseWindow(nil, "01:00", "", ""); return w, len(bad) },
		"zone":  func() (Window, int) { w, bad := ParseWindow(nil, "01:00", "02:00", "Mars/Olympus"); return w, len(bad) },
		"local": func() (Window, int) { w, bad := ParseWindow(nil, "01:00", "02:00", "Local"); return w, len(bad) },
	} {
		if _, bad := call(); bad != 1 {
			t.Errorf("%s: %d objections", name, bad)
		}
	}
}

// inside is the plain reading of a window, minute by minute, for zones whose clocks do not change.
func inside(w Window, when time.Time) bool {
	local := when.In(w.Zone)
	minute := local.Hour()*60 + local.Minute()
	begins := func(d time.Weekday) bool { return len(w.Weekdays) == 0 || slices.Contains(w.Weekdays, d) }
	today, yesterday := begins(local.Weekday()), begins(local.AddDate(0, 0, -1).Weekday())
	if w.Start < w.End {
		return today && minute >= w.Start && minute < w.End
	}
	return today && minute >= w.Start || yesterday && minute < w.End
}

func TestOpening_SkipsNoMomentOfAnyWindow(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Asia/Tokyo"), zone(t, "Asia/Kathmandu")}
	rapid.Check(t, func(t *rapid.T) {
		windows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Window {
			w := Window{
				Start: rapid.IntRange(0, 95).Draw(t, "start") * 15, End: rapid.IntRange(0, 95).Draw(t, "end") * 15,
				Zone: rapid.SampledFrom(zones).Draw(t, "zone"),
			}
			for d := range 7 {
				if rapid.Bool().Draw(t, "day") {
					w.Weekdays = append(w.Weekdays, time.Weekday(d))
				}
			}
			return w
		}), 1, 3).Draw(t, "windows")
		from := time.Date(2026, 2, 1, 0, 15*rapid.IntRange(0, 4000).Draw(t, "from"), 0, 0, time.UTC)
		got, ok := Opening(windows, from)
		if !ok {
			t.Fatalf("never opens: %+v", windows)
		}
		for when := from; !when.After(got); when = when.Add(15 * time.Minute) {
			in := false
			for _, w := range windows {
				in = in || inside(w, when)
			}
			if in != when.Equal(got) {
				t.Fatalf("from %s it opens at %s, but %s is in a window: %t", from, got, when, in)
			}
		}
	})
}

func TestWindow_IsNeverShorterThanItsClocksSay(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	rapid.Check(t, func(t *rapid.T) {
		w := Window{Start: rapid.IntRange(0, 1439).Draw(t, "start"), End: rapid.IntRange(0, 1439).Draw(t, "end"), Zone: berlin}
		day := rapid.IntRange(0, 364).Draw(t, "day")
		start, end, ok := w.on(2026, 1, 1+day)
		length := w.End - w.Start
		if length <= 0 {
			length += 1440
		}
		want := time.Duration(length) * time.Minute
		if !ok {
			// Only the hour that is skipped can swallow a window.
			if want > time.Hour {
				t.Fatalf("%+v is not there on day %d", w, day)
			}
			return
		}
		if got := end.Sub(start); got < want-time.Hour || got > want+time.Hour {
			t.Fatalf("%+v lasts %s on day %d", w, got, day)
		}
	})
}
