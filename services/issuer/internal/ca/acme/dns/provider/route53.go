package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const amazon = "Route 53"

// Route53Account is an access key, and where it is good.
type Route53Account struct {
	AccessKey, Secret, SessionToken string
	// Region is us-east-1 unless it is one of a partition of its own, as in China.
	Region string
	// HostedZone is the id of the zone; empty is to look for it by its name.
	HostedZone string
}

// Route53Zones edits public hosted zones. A change names the set of records as it was seen, and is made as a whole or not
// at all.
type Route53Zones struct {
	client *route53.Client
	hosted string
}

// NewRoute53 returns the zones of an account.
func NewRoute53(a Route53Account, e Endpoints) *Route53Zones {
	o := route53.Options{
		Region: a.Region, HTTPClient: web,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: a.AccessKey, SecretAccessKey: a.Secret, SessionToken: a.SessionToken, Source: "settings"}, nil
		}),
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if e.Route53 != "" {
		o.BaseEndpoint = &e.Route53
	}
	return &Route53Zones{route53.New(o), a.HostedZone}
}

// zone returns the id of a hosted zone.
func (r *Route53Zones) zone(ctx context.Context, name string) (string, error) {
	if r.hosted != "" {
		return r.hosted, nil
	}
	page, err := r.client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: aws.String(name + ".")})
	if err != nil {
		return "", said(err, "route53:ListHostedZonesByName; without that right set dns_route53_hosted_zone_id")
	}
	var ids []string
	for _, z := range page.HostedZones {
		if aws.ToString(z.Name) == name+"." && (z.Config == nil || !z.Config.PrivateZone) {
			ids = append(ids, strings.TrimPrefix(aws.ToString(z.Id), "/hostedzone/"))
		}
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", fmt.Errorf("the account has no public hosted zone %s", name)
	}
	return "", fmt.Errorf("the account has several public hosted zones %s (%s); set dns_route53_hosted_zone_id", name, strings.Join(ids, ", "))
}

// said is an error of Route 53 in its words, with the right that it was about.
func said(err error, right string) error {
	if told, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s says: %s (%s); the key needs %s", amazon, clipped(told.ErrorMessage()), told.ErrorCode(), right)
	}
	return fmt.Errorf("%s cannot be asked: %w", amazon, plain(err))
}

// edit changes the set of records of a name; nothing if change says that all is well.
func (r *Route53Zones) edit(ctx context.Context, at publish.Place, change func([]string) (after []string, needed bool)) error {
	zone, err := r.zone(ctx, at.Zone)
	if err != nil {
		return err
	}
	return contested(ctx, func() error {
		set, err := r.set(ctx, zone, at.Name)
		if err != nil {
			return err
		}
		var now []string
		var changes []types.Change
		if set != nil {
			for _, v := range set.ResourceRecords {
				now = append(now, aws.ToString(v.Value))
			}
			changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: set})
		}
		after, needed := change(now)
		if !needed {
			return nil
		}
		if len(after) > 0 {
			with := &types.ResourceRecordSet{Name: aws.String(at.Name + "."), Type: types.RRTypeTxt, TTL: aws.Int64(ttl)}
			for _, v := range after {
				with.ResourceRecords = append(with.ResourceRecords, types.ResourceRecord{Value: aws.String(v)})
			}
			changes = append(changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: with})
		}
		_, err = r.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
			HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{Changes: changes, Comment: aws.String("proof for an ACME CA")},
		})
		if busy(err) {
			return errContested
		}
		if err != nil {
			return said(err, "route53:ChangeResourceRecordSets on the hosted zone "+zone)
		}
		return nil
	})
}

// busy tells whether a change came too late, or too early after another.
func busy(err error) bool {
	if _, ok := errors.AsType[*types.InvalidChangeBatch](err); ok {
		return true
	}
	_, ok := errors.AsType[*types.PriorRequestNotComplete](err)
	return ok
}

// set returns the TXT records of a name, nil if there are none.
func (r *Route53Zones) set(ctx context.Context, zone, name string) (*types.ResourceRecordSet, error) {
	page, err := r.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
		HostedZoneId: &zone, StartRecordName: aws.String(name + "."), StartRecordType: types.RRTypeTxt, MaxItems: aws.Int32(1),
	})
	if err != nil {
		return nil, said(err, "route53:ListResourceRecordSets on the hosted zone "+zone)
	}
	for _, set := range page.ResourceRecordSets {
		if set.Type == types.RRTypeTxt && strings.EqualFold(aws.ToString(set.Name), name+".") {
			return &set, nil
		}
	}
	return nil, nil
}

// Add implements [publish.Provider].
func (r *Route53Zones) Add(ctx context.Context, at publish.Place, value string) error {
	return r.edit(ctx, at, func(now []string) ([]string, bool) {
		return append(slices.Clone(now), quoted(value)), !slices.Contains(now, quoted(value))
	})
}

// Remove implements [publish.Provider].
func (r *Route53Zones) Remove(ctx context.Context, at publish.Place, value string) error {
	return r.edit(ctx, at, func(now []string) ([]string, bool) {
		return slices.DeleteFunc(slices.Clone(now), func(v string) bool { return v == quoted(value) }), slices.Contains(now, quoted(value))
	})
}

// Test implements [publish.Provider]. Whether records may be set shows only when one is.
func (r *Route53Zones) Test(ctx context.Context, zones []string) error {
	switch {
	case r.hosted != "":
		_, err := r.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &r.hosted, MaxItems: aws.Int32(1)})
		if err != nil {
			return said(err, "route53:ListResourceRecordSets on the hosted zone "+r.hosted)
		}
		return nil
	case len(zones) == 0:
		_, err := r.client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{MaxItems: aws.Int32(1)})
		if err != nil {
			return said(err, "route53:ListHostedZonesByName")
		}
		return nil
	}
	for _, name := range zones {
		zone, err := r.zone(ctx, name)
		if err == nil {
			_, err = r.set(ctx, zone, "_acme-challenge."+name)
		}
		if err != nil {
			return refused(name, err)
		}
	}
	return nil
}
