package campaign

import (
	"strconv"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Chosen is a certificate that is meant, with its version in use.
type Chosen struct {
	issuance.Certificate
	// Targets have their agents.
	Targets []issuance.Target
	// VersionIssuerID issued the version, and AuthorityKeyID is the key that signed it.
	VersionIssuerID, AuthorityKeyID string
	KeyAlgorithm                    string
	KeySize                         int
	CSRPEM                          string
	// Still tells that the selection still admits it.
	Still bool
}

// Budget is what an issuer may be asked. Zero is no limit.
type Budget struct {
	MaxConcurrent int           `json:"max_concurrent,omitempty"`
	RateLimit     int           `json:"rate_limit,omitempty"`
	RateWindow    time.Duration `json:"rate_window,omitempty"`
}

// Cost is what a campaign asks of an issuer.
type Cost struct {
	Requests int    `json:"requests"`
	Budget   Budget `json:"budget"`
	// Took is how long its latest certificates took from beginning to end; zero is not known.
	Took time.Duration `json:"took"`
	// CAKeyID is the key that its CA signs with, as far as that has been seen.
	CAKeyID string `json:"ca_key_id,omitempty"`
	// Away says why it signs nothing now, if it does not.
	Away string `json:"-"`
	// AtLeast is how long the budget and that time make it take.
	AtLeast time.Duration `json:"at_least"`
}

// Named is how many refusals a plan lists.
const Named = 100

// Plan is what a campaign would do.
type Plan struct {
	Total      int `json:"total"`
	WouldIssue int `json:"would_issue"`
	// Of those that would be re-issued. ByIssuer and ByCAKey say what signed the versions in use.
	ByOwner       map[string]int `json:"by_owner"`
	ByTeam        map[string]int `json:"by_team"`
	ByEnvironment map[string]int `json:"by_environment"`
	ByIssuer      map[string]int `json:"by_issuer"`
	ByCAKey       map[string]int `json:"by_ca_key"`
	ByKey         map[string]int `json:"by_key"`
	// WouldFail is how many the policy rules forbid.
	WouldFail int          `json:"would_fail"`
	WouldSkip int          `json:"would_skip"`
	RefusedBy map[Kind]int `json:"refused_by"`
	// KeyHolders are the owners of certificates whose key is their requester's, with how many they have.
	KeyHolders map[string]int `json:"key_holders"`
	// Refusals are the first.
	Refusals []Refusal `json:"refusals"`
	// Costs are by the issuer that is asked.
	Costs    map[string]*Cost `json:"costs"`
	Waves    []int            `json:"waves"`
	Canary   int              `json:"canary"`
	Takes    time.Duration    `json:"takes"`
	Warnings []string         `json:"warnings"`
}

// Refusal is a certificate that would not be re-issued.
type Refusal struct {
	CertificateID string `json:"certificate_id"`
	OwnerID       string `json:"owner_id"`
	Kind          Kind   `json:"kind"`
	Reason        string `json:"reason"`
}

func newPlan() *Plan {
	return &Plan{
		ByOwner: map[string]int{}, ByTeam: map[string]int{}, ByEnvironment: map[string]int{}, ByIssuer: map[string]int{},
		ByCAKey: map[string]int{}, ByKey: map[string]int{}, RefusedBy: map[Kind]int{}, KeyHolders: map[string]int{},
		Refusals: []Refusal{}, Costs: map[string]*Cost{}, Waves: []int{}, Warnings: []string{},
	}
}

// add notes a certificate: it is refused if kind is not empty.
func (p *Plan) add(s *Settings, c *Chosen, kind Kind, reason string) {
	p.Total++
	if kind != "" {
		if kind == KindPolicy {
			p.WouldFail++
		} else {
			p.WouldSkip++
		}
		p.RefusedBy[kind]++
		if kind == KindKeyHeld {
			p.KeyHolders[c.OwnerID]++
		}
		if len(p.Refusals) < Named {
			p.Refusals = append(p.Refusals, Refusal{c.ID, c.OwnerID, kind, reason})
		}
		return
	}
	p.WouldIssue++
	p.ByOwner[c.OwnerID]++
	p.ByTeam[c.TeamID]++
	p.ByEnvironment[c.Environment]++
	p.ByIssuer[c.VersionIssuerID]++
	p.ByCAKey[c.AuthorityKeyID]++
	p.ByKey[keyName(c.KeyAlgorithm, c.KeySize)]++
	to := s.moved(c.Certificate).IssuerID
	if p.Costs[to] == nil {
		p.Costs[to] = &Cost{}
	}
	p.Costs[to].Requests++
}

// keyName is a kind of key as people write it, such as RSA 2048.
func keyName(algorithm string, size int) string {
	if size == 0 {
		return algorithm
	}
	return algorithm + " " + strconv.Itoa(size)
}

// usual is how long an issue takes of which nothing is known.
const usual = time.Second

// inWaves is how many are put into waves: all but those of which it is known that they will be skipped.
func (p *Plan) inWaves() int { return p.WouldIssue + p.WouldFail + p.RefusedBy[KindUnderWay] }

// estimate divides what is chosen into waves, and says about how long all of it takes. The issuers are asked
// side by side.
func (p *Plan) estimate(s *Settings, canary int) {
	p.Canary = min(canary, p.inWaves())
	if p.Canary > 0 {
		p.Waves = append(p.Waves, p.Canary)
	}
	for rest := p.inWaves() - p.Canary; rest > 0; {
		n := rest
		if s.WaveSize > 0 {
			n = min(rest, s.WaveSize)
		}
		p.Waves = append(p.Waves, n)
		rest -= n
	}
	slowest := time.Duration(0)
	for _, c := range p.Costs {
		c.AtLeast = c.least(s.InFlight)
		p.Takes, slowest = max(p.Takes, c.AtLeast), max(slowest, c.took())
	}
	// A wave waits for its last certificate.
	waves := time.Duration(0)
	for _, n := range p.Waves {
		waves += rounds(n, s.InFlight) * slowest
	}
	p.Takes = max(p.Takes, waves)
	if len(p.Waves) > 1 {
		p.Takes += time.Duration(len(p.Waves)-1) * s.PauseBetween
	}
}

// rounds is how often so many at a time make n.
func rounds(n, at int) time.Duration { return time.Duration((n + at - 1) / at) }

func (c *Cost) took() time.Duration {
	if c.Took == 0 {
		return usual
	}
	return c.Took
}

// least is how long an issuer's share takes: so many at a time, and no more in a window than its budget allows.
func (c *Cost) least(inFlight int) time.Duration {
	at := inFlight
	if c.Budget.MaxConcurrent > 0 {
		at = min(at, c.Budget.MaxConcurrent)
	}
	least := rounds(c.Requests, at) * c.took()
	if c.Budget.RateLimit > 0 {
		// The first window's requests need no waiting.
		least = max(least, time.Duration((c.Requests-1)/c.Budget.RateLimit)*c.Budget.RateWindow)
	}
	return least
}
