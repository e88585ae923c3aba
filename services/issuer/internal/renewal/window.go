package renewal

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a window's zone must not depend on what a container image holds

	"github.com/certctl/certctl/libs/fault"
)

// Window is a span of time that comes again every week. It begins on each of its weekdays at Start, by the clocks of
// its zone, and ends when they next show End: on the day after if End is not later than Start.
//
// Where the clocks are put forward, a time that they skip is the moment of the change, and a window within the skipped
// hour is not there that day. Where they are put back, a time that comes twice is the first as a start and the second
// as an end, so no window is shorter than its length by the clocks.
type Window struct {
	// Weekdays are the days on which it begins; none is every day.
	Weekdays []time.Weekday
	// Start and End are minutes after midnight.
	Start, End int
	Zone       *time.Location
}

var weekdays = map[string]time.Weekday{
	"mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday, "thu": time.Thursday,
	"fri": time.Friday, "sat": time.Saturday, "sun": time.Sunday,
}

// ParseWindow reads a window as the API spells it: weekdays by their English names or the first three letters of them,
// times as 15:04, the zone by its name in the IANA database (none is UTC).
func ParseWindow(days []string, start, end, zone string) (Window, []fault.Field) {
	var w Window
	var bad []fault.Field
	for _, d := range days {
		name := strings.ToLower(d)
		if len(name) > 3 && !strings.EqualFold(name, weekdays[name[:3]].String()) {
			name = ""
		}
		weekday, ok := weekdays[name[:min(len(name), 3)]]
		if !ok {
			bad = append(bad, fault.Field{Name: "weekdays", Reason: fmt.Sprintf("%q is no weekday; write Mon, Tue, Wed, Thu, Fri, Sat or Sun", d)})
			continue
		}
		w.Weekdays = append(w.Weekdays, weekday)
	}
	slices.Sort(w.Weekdays)
	w.Weekdays = slices.Compact(w.Weekdays)
	for _, at := range []struct {
		field, text string
		minute      *int
	}{{"start", start, &w.Start}, {"end", end, &w.End}} {
		t, err := time.Parse("15:04", at.text)
		if err != nil {
			bad = append(bad, fault.Field{Name: at.field, Reason: "must be a time of day such as 22:00"})
			continue
		}
		*at.minute = t.Hour()*60 + t.Minute()
	}
	var err error
	if w.Zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
		bad = append(bad, fault.Field{Name: "time_zone", Reason: fmt.Sprintf("there is no time zone %q; write one such as Europe/Berlin", zone)})
	}
	return w, bad
}

// Names of a window's parts, as the API spells them.
func (w Window) Names() (days []string, start, end, zone string) {
	days = []string{}
	for _, d := range w.Weekdays {
		days = append(days, d.String()[:3])
	}
	clock := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
	return days, clock(w.Start), clock(w.End), w.Zone.String()
}

// on is the window that begins on a day, false if none does.
func (w Window) on(year int, month time.Month, dayOfMonth int) (start, end time.Time, ok bool) {
	// Noon is there on every day of every zone, so the weekday is that of the calendar.
	if weekday := time.Date(year, month, dayOfMonth, 12, 0, 0, 0, time.UTC).Weekday(); len(w.Weekdays) > 0 && !slices.Contains(w.Weekdays, weekday) {
		return start, end, false
	}
	until := w.End
	if until <= w.Start {
		until += 24 * 60
	}
	start, _ = moments(year, month, dayOfMonth, w.Start, w.Zone)
	_, end = moments(year, month, dayOfMonth, until, w.Zone)
	return start, end, start.Before(end)
}

// moments are the first and the last moment at which the clocks of a zone show a time. One that they skip is the moment
// at which they do.
func moments(year int, month time.Month, dayOfMonth, minute int, zone *time.Location) (first, last time.Time) {
	wall := time.Date(year, month, dayOfMonth, 0, minute, 0, 0, time.UTC)
	guess := time.Date(year, month, dayOfMonth, 0, minute, 0, 0, zone)
	from, to := guess.ZoneBounds()
	near := []time.Time{guess}
	if !from.IsZero() {
		near = append(near, from.Add(-time.Second))
	}
	if !to.IsZero() {
		near = append(near, to)
	}
	for _, n := range near {
		_, offset := n.Zone()
		at := wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if _, o := at.Zone(); o != offset {
			continue
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	if !first.IsZero() {
		return first, last
	}
	// What Go makes of a time that is not there lies on one side of the change or the other.
	_, offset := guess.Zone()
	if guess.Add(time.Duration(offset) * time.Second).UTC().Before(wall) {
		return to, to
	}
	return from, from
}

// searchDays is how far ahead windows are looked for: further than any pattern of weekdays and clock changes reaches.
const searchDays = 16

// Opening is the first moment, not before from, that lies in one of the windows: from itself if it does. Without
// windows all of time does. It is false if no window ever opens.
func Opening(windows []Window, from time.Time) (time.Time, bool) {
	if len(windows) == 0 {
		return from, true
	}
	var found time.Time
	for _, w := range windows {
		year, month, dayOfMonth := from.In(w.Zone).Date()
		for d := -2; d <= searchDays; d++ {
			start, end, ok := w.on(year, month, dayOfMonth+d)
			if !ok || !from.Before(end) {
				continue
			}
			if start.Before(from) {
				start = from
			}
			if found.IsZero() || start.Before(found) {
				found = start
			}
			break
		}
	}
	return found.UTC(), !found.IsZero()
}
