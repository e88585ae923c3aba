package fleet_test

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

func TestGroup_CriteriaAreTrulyEvaluated(t *testing.T) {
	agent := fleet.Agent{OS: "linux", Architecture: "amd64", IPAddress: "10.20.30.40", Version: "v1.4.2"}
	for name, tt := range map[string]struct {
		group  fleet.Group
		change func(*fleet.Agent)
		want   bool
	}{
		"no criterion matches nobody":       {group: fleet.Group{}, want: false},
		"system, whatever its case":         {group: fleet.Group{MatchOS: "Linux"}, want: true},
		"another system":                    {group: fleet.Group{MatchOS: "windows"}, want: false},
		"not a part of the system's name":   {group: fleet.Group{MatchOS: "lin"}, want: false},
		"architecture":                      {group: fleet.Group{MatchArchitecture: "AMD64"}, want: true},
		"another architecture":              {group: fleet.Group{MatchArchitecture: "arm64"}, want: false},
		"network":                           {group: fleet.Group{MatchIPCIDR: "10.20.0.0/16"}, want: true},
		"a network that begins like it":     {group: fleet.Group{MatchIPCIDR: "10.2.0.0/16"}, want: false},
		"its own address":                   {group: fleet.Group{MatchIPCIDR: "10.20.30.40"}, want: true},
		"a network of the other family":     {group: fleet.Group{MatchIPCIDR: "::/0"}, want: false},
		"range":                             {group: fleet.Group{MatchVersion: ">= 1.2, < 2"}, want: true},
		"wildcard":                          {group: fleet.Group{MatchVersion: "1.4.x"}, want: true},
		"exact version":                     {group: fleet.Group{MatchVersion: "v1.4.2"}, want: true},
		"below the range":                   {group: fleet.Group{MatchVersion: "^1.5"}, want: false},
		"numbers, not texts, are compared":  {group: fleet.Group{MatchVersion: "< 1.10"}, want: true},
		"several, all met":                  {group: fleet.Group{MatchOS: "linux", MatchIPCIDR: "10.0.0.0/8", MatchVersion: "~1.4"}, want: true},
		"several, one not met":              {group: fleet.Group{MatchOS: "linux", MatchVersion: "2"}, want: false},
		"an address that is none":           {group: fleet.Group{MatchIPCIDR: "0.0.0.0/0"}, change: func(a *fleet.Agent) { a.IPAddress = "eth0" }, want: false},
		"no address":                        {group: fleet.Group{MatchIPCIDR: "0.0.0.0/0"}, change: func(a *fleet.Agent) { a.IPAddress = "" }, want: false},
		"IPv6":                              {group: fleet.Group{MatchIPCIDR: "2001:db8::/32"}, change: func(a *fleet.Agent) { a.IPAddress = "2001:db8:1::7" }, want: true},
		"a version that is none":            {group: fleet.Group{MatchVersion: ">= 0"}, change: func(a *fleet.Agent) { a.Version = "devel" }, want: false},
		"a pre-release nobody asked for":    {group: fleet.Group{MatchVersion: ">= 1.2"}, change: func(a *fleet.Agent) { a.Version = "1.5.0-rc.1" }, want: false},
		"a pre-release that was asked for":  {group: fleet.Group{MatchVersion: ">= 1.2-0"}, change: func(a *fleet.Agent) { a.Version = "1.5.0-rc.1" }, want: true},
		"a system when the agent told none": {group: fleet.Group{MatchOS: "linux"}, change: func(a *fleet.Agent) { a.OS = "" }, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			a := agent
			if tt.change != nil {
				tt.change(&a)
			}
			if got := tt.group.MatchesAgent(a); got != tt.want {
				t.Errorf("%+v of %+v: %v", tt.group, a, got)
			}
		})
	}
}

func TestGroup_WhatIsSaidByHandBeatsTheCriteria(t *testing.T) {
	linux := fleet.Group{MatchOS: "linux"}
	on, off := fleet.Agent{OS: "linux"}, fleet.Agent{OS: "windows"}
	gone := fleet.Agent{OS: "linux", Status: fleet.Retired}
	for _, tt := range []struct {
		agent  fleet.Agent
		byHand fleet.Membership
		want   fleet.Membership
	}{
		{on, "", fleet.Dynamic},
		{on, fleet.Exclude, fleet.Exclude},
		{on, fleet.Include, fleet.Include},
		{off, "", ""},
		{off, fleet.Include, fleet.Include},
		{off, fleet.Exclude, fleet.Exclude},
		{gone, "", ""},
		{gone, fleet.Include, ""},
	} {
		if got := linux.Member(tt.agent, tt.byHand); got != tt.want {
			t.Errorf("%s, %s by hand %q: %q, want %q", tt.agent.OS, tt.agent.Status, tt.byHand, got, tt.want)
		}
	}
}

func TestGroup_WrongCriteriaAreNamed(t *testing.T) {
	for field, g := range map[string]fleet.Group{
		"":                   {Name: "g", MatchOS: "linux", MatchIPCIDR: "10.1.2.3/8", MatchVersion: ">=1.2 <2 || ^3"},
		"name":               {Name: " "},
		"description":        {Name: "g", Description: strings.Repeat("x", 1001)},
		"match_os":           {Name: "g", MatchOS: "linux\n"},
		"match_architecture": {Name: "g", MatchArchitecture: strings.Repeat("x", 256)},
		"match_ip_cidr":      {Name: "g", MatchIPCIDR: "10.0.0.0/33"},
		"match_version":      {Name: "g", MatchVersion: "newest"},
	} {
		err := fleet.CheckGroup(&g)
		if field == "" {
			if err != nil || g.MatchIPCIDR != "10.0.0.0/8" {
				t.Errorf("%v, network %s", err, g.MatchIPCIDR)
			}
			continue
		}
		if f := fault.From(err); f == nil || f.Code != fault.Invalid || f.Fields[0].Name != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestGroup_ANetworkHoldsExactlyTheAddressesThatShareItsPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
		of := func(name string) netip.Addr {
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, name))
			return a
		}
		inside, other := of("inside"), of("other")
		bits := rapid.IntRange(0, inside.BitLen()).Draw(t, "bits")
		network := netip.PrefixFrom(inside, bits)
		g := fleet.Group{Name: "g", MatchIPCIDR: network.String()}
		if err := fleet.CheckGroup(&g); err != nil {
			t.Fatal(err)
		}
		if !g.MatchesAgent(fleet.Agent{IPAddress: inside.String()}) {
			t.Fatalf("%s does not hold %s", g.MatchIPCIDR, inside)
		}
		share := netip.PrefixFrom(other, bits).Masked() == network.Masked()
		if g.MatchesAgent(fleet.Agent{IPAddress: other.String()}) != share {
			t.Fatalf("%s and %s: want %v", g.MatchIPCIDR, other, share)
		}
	})
}

func TestGroup_AnotherCriterionNeverAddsAnAgent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		a := fleet.Agent{
			OS: text("os", "linux", "Linux", "windows", ""), Architecture: text("arch", "amd64", "arm64", ""),
			IPAddress: text("ip", "10.0.0.1", "192.0.2.9", "fe80::1%eth0", "x", ""), Version: text("version", "1.2.3", "v2.0.0", "devel", ""),
		}
		g := fleet.Group{MatchOS: text("match os", "linux", "windows"), MatchIPCIDR: text("match ip", "", "10.0.0.0/8")}
		wider := g.MatchesAgent(a)
		g.MatchVersion = text("match version", ">= 1", "< 2")
		if g.MatchesAgent(a) && !wider {
			t.Fatalf("%+v belongs to %+v, and did not before", a, g)
		}
	})
}
