package publish

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
)

const lookPause = time.Second

// Watch waits until records are seen.
type Watch struct {
	// Wait is how long nobody looks after the records were set, so that no resolver remembers that they are not there.
	Wait time.Duration
	// Timeout is how long they may take to be seen then; zero is not to look.
	Timeout time.Duration
	// ByResolver has the resolvers asked, where the name servers of the zones cannot be reached from here; else every name
	// server that answers must know the records.
	ByResolver bool
}

// Await returns when records are seen. Its error says which is not, and what is seen instead; it is ctx's if that ends.
func (w Watch) Await(ctx context.Context, r *lookup.Resolver, records []Record) error {
	if err := rest(ctx, w.Wait); err != nil || w.Timeout == 0 {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	asked := map[string]place{}
	for _, record := range records {
		if _, known := asked[record.Name]; !known {
			asked[record.Name] = place{name: record.Name}
			if !w.ByResolver {
				asked[record.Name] = authoritative(bounded, r, record.Name)
			}
		}
		missing := "it was not looked for"
		for {
			if says := look(bounded, r, asked[record.Name], record.Value); says == "" {
				break
			} else if bounded.Err() == nil {
				missing = says
			}
			if rest(bounded, lookPause) != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("the record %s was set and is not seen after %s: %s", record.Name, w.Timeout, missing)
			}
		}
	}
	return nil
}

// place is where a record is looked for.
type place struct {
	name string
	// servers are the zone's; none is to ask the resolvers.
	servers []string
}

// authoritative finds the name servers to ask for a name, behind its aliases. There are none if they cannot be found, as
// in a network that hides them.
func authoritative(ctx context.Context, r *lookup.Resolver, name string) place {
	at, err := r.Locate(ctx, name, false)
	if err != nil || at.Zone == "" {
		return place{name: name}
	}
	servers, err := r.Authorities(ctx, at.Zone)
	if err != nil {
		return place{name: name}
	}
	return place{at.Name, servers}
}

// look says what is seen instead of a value, and nothing if that is seen.
func look(ctx context.Context, r *lookup.Resolver, at place, value string) string {
	answered, silent := false, ""
	for _, server := range at.servers {
		answer := r.AskAt(ctx, server, at.name, dns.TypeTXT)
		if answer.Outcome == lookup.Silent {
			silent = server + ": " + answer.Says
			continue
		}
		answered = true
		if !slices.Contains(answer.Texts(), value) {
			return "name server " + server + ": " + shows(answer)
		}
	}
	if answered {
		return ""
	}
	answer := r.Ask(ctx, at.name, dns.TypeTXT)
	if slices.Contains(answer.Texts(), value) {
		return ""
	}
	if silent != "" {
		return silent
	}
	return "resolver " + strings.Join(r.Servers(), ", ") + ": " + shows(answer)
}

func shows(a lookup.Answer) string {
	if texts := a.Texts(); len(texts) > 0 {
		return fmt.Sprintf("it has %q", texts)
	}
	return a.Says
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
