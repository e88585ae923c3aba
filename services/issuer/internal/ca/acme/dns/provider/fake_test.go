package provider

import (
	"encoding/json"
	"encoding/xml"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The fakes below speak as much of each interface as is used, as its documentation has it. They hold one zone,
// example.com, whose sets of TXT values are in values, by name.
type fake struct {
	mu     sync.Mutex
	values map[string][]string // guarded by mu
	// version grows with every change; guarded by mu.
	version int
	// refuses has every call with good credentials refused for want of rights.
	refuses bool
}

const (
	fakeZone   = "example.com"
	goodSecret = "good-secret-1"
	badSecret  = "bad-secret-2"
)

func (f *fake) texts(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.values[name])
	slices.Sort(all)
	return all
}

func serve(t *testing.T, handle func(http.ResponseWriter, *http.Request)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(handle))
	t.Cleanup(s.Close)
	return s.URL
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// cloudflare is a fake of Cloudflare's API, version 4: each value is a record with an id.
func (f *fake) cloudflare(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(status, code int, message string) {
		answer(w, status, map[string]any{"success": false, "errors": []any{map[string]any{"code": code, "message": message}}})
	}
	records, ok := strings.CutPrefix(r.URL.Path, "/zones/zone-1/dns_records")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+goodSecret:
		fail(http.StatusForbidden, 9109, "Invalid access token")
	case r.URL.Path == "/zones":
		var zones []any
		if name := r.URL.Query().Get("name"); name == "" || name == fakeZone {
			zones = append(zones, map[string]any{"id": "zone-1", "name": fakeZone})
		}
		answer(w, http.StatusOK, map[string]any{"success": true, "result": zones})
	case ok && f.refuses && r.Method != http.MethodGet:
		fail(http.StatusForbidden, 10000, "Authentication error")
	case ok && r.Method == http.MethodPost:
		var record struct{ Type, Name, Content string }
		_ = json.NewDecoder(r.Body).Decode(&record)
		v := strings.Trim(record.Content, `"`)
		if slices.Contains(f.values[record.Name], v) {
			fail(http.StatusBadRequest, 81058, "An identical record already exists.")
			return
		}
		f.values[record.Name] = append(f.values[record.Name], v)
		answer(w, http.StatusOK, map[string]any{"success": true, "result": map[string]any{"id": record.Name + "|" + v}})
	case ok && r.Method == http.MethodGet:
		var result []any
		name := r.URL.Query().Get("name")
		for _, v := range f.values[name] {
			result = append(result, map[string]any{"id": name + "|" + v, "content": quoted(v)})
		}
		answer(w, http.StatusOK, map[string]any{"success": true, "result": result})
	case r.Method == http.MethodDelete:
		name, v, _ := strings.Cut(strings.TrimPrefix(records, "/"), "|")
		f.values[name] = slices.DeleteFunc(f.values[name], func(s string) bool { return s == v })
		answer(w, http.StatusOK, map[string]any{"success": true})
	default:
		fail(http.StatusNotFound, 7003, "Could not route")
	}
}

// azure is a fake of Azure's login and of its resource manager, which changes a set only if the condition on its ETag
// holds.
func (f *fake) azure(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(status int, code string) {
		answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": code + " it is"}})
	}
	if r.URL.Path == "/tenant-1/oauth2/v2.0/token" {
		if r.FormValue("client_secret") != goodSecret || r.FormValue("scope") == "" || r.FormValue("grant_type") != "client_credentials" {
			answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
			return
		}
		answer(w, http.StatusOK, map[string]any{"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600})
		return
	}
	zones := "/subscriptions/sub-1/resourceGroups/group-1/providers/Microsoft.Network/dnsZones"
	relative, isSet := strings.CutPrefix(r.URL.Path, zones+"/"+fakeZone+"/TXT/")
	name := relative + "." + fakeZone
	now := f.values[name]
	tag := `"` + strconv.Itoa(f.version) + `"`
	held := r.Header.Get("If-Match") == tag && now != nil || r.Header.Get("If-None-Match") == "*" && now == nil
	switch {
	case r.Header.Get("Authorization") != "Bearer token-1" || r.URL.Query().Get("api-version") == "":
		fail(http.StatusUnauthorized, "AuthenticationFailed")
	case r.URL.Path == zones || r.URL.Path == zones+"/"+fakeZone:
		answer(w, http.StatusOK, map[string]any{})
	case !isSet:
		fail(http.StatusNotFound, "ResourceNotFound")
	case f.refuses:
		fail(http.StatusForbidden, "AuthorizationFailed")
	case r.Method == http.MethodGet && now == nil:
		fail(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodGet:
		set := azureSet{ETag: tag}
		for _, v := range now {
			set.Properties.Records = append(set.Properties.Records, azureValue{[]string{v}})
		}
		answer(w, http.StatusOK, set)
	case !held:
		fail(http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut:
		var set azureSet
		_ = json.NewDecoder(r.Body).Decode(&set)
		f.version++
		f.values[name] = nil
		for _, v := range set.Properties.Records {
			f.values[name] = append(f.values[name], strings.Join(v.Value, ""))
		}
		answer(w, http.StatusOK, set)
	case r.Method == http.MethodDelete:
		f.version++
		delete(f.values, name)
		w.WriteHeader(http.StatusOK)
	}
}

// google is a fake of Google's token endpoint and of Cloud DNS, version 1: what a change deletes must be as it is.
func (f *fake) google(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(status int, message string) {
		answer(w, status, map[string]any{"error": map[string]any{"code": status, "message": message}})
	}
	if r.URL.Path == "/token" {
		if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || strings.Count(r.FormValue("assertion"), ".") != 2 {
			answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
			return
		}
		answer(w, http.StatusOK, map[string]any{"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600})
		return
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer token-1":
		fail(http.StatusUnauthorized, "Request had invalid authentication credentials.")
	case r.URL.Path == "/projects/project-1/managedZones":
		zones := []any{map[string]any{"name": "private-1", "dnsName": fakeZone + ".", "visibility": "private"}}
		if name := r.URL.Query().Get("dnsName"); name == "" || name == fakeZone+"." {
			zones = append(zones, map[string]any{"name": "zone-1", "dnsName": fakeZone + ".", "visibility": "public"})
		}
		answer(w, http.StatusOK, map[string]any{"managedZones": zones})
	case r.URL.Path == "/projects/project-1/managedZones/zone-1/rrsets":
		var sets []googleSet
		name := strings.TrimSuffix(r.URL.Query().Get("name"), ".")
		if now := f.values[name]; now != nil {
			sets = append(sets, googleSet{Name: name + ".", Type: "TXT", TTL: ttl, Records: now})
		}
		answer(w, http.StatusOK, map[string]any{"rrsets": sets})
	case r.URL.Path == "/projects/project-1/managedZones/zone-1/changes" && f.refuses:
		fail(http.StatusForbidden, "Forbidden")
	case r.URL.Path == "/projects/project-1/managedZones/zone-1/changes":
		var c googleChange
		_ = json.NewDecoder(r.Body).Decode(&c)
		for _, set := range c.Deletions {
			if !slices.Equal(f.values[strings.TrimSuffix(set.Name, ".")], set.Records) {
				fail(http.StatusPreconditionFailed, "Precondition not met for 'entity.change.deletions[0]'")
				return
			}
		}
		if len(c.Deletions) == 0 && f.values[strings.TrimSuffix(c.Additions[0].Name, ".")] != nil {
			fail(http.StatusConflict, "The resource 'entity.change.additions[0]' already exists")
			return
		}
		for _, set := range c.Deletions {
			delete(f.values, strings.TrimSuffix(set.Name, "."))
		}
		for _, set := range c.Additions {
			f.values[strings.TrimSuffix(set.Name, ".")] = set.Records
		}
		answer(w, http.StatusOK, map[string]any{"status": "pending", "id": "1"})
	default:
		fail(http.StatusNotFound, "Not Found")
	}
}

// route53 is a fake of Route 53, 2013-04-01: a batch of changes is made as a whole, and what it deletes must be as it is.
func (f *fake) route53(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(status int, code, message string) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>` + code +
			`</Code><Message>` + message + `</Message></Error><RequestId>1</RequestId></ErrorResponse>`))
	}
	signed := r.Header.Get("Authorization")
	switch {
	case !strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential=AKIDGOOD/") || !strings.Contains(signed, "/us-east-1/route53/aws4_request"):
		fail(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
	case r.URL.Path == "/2013-04-01/hostedzonesbyname":
		_, _ = w.Write([]byte(`<ListHostedZonesByNameResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HostedZones>` +
			`<HostedZone><Id>/hostedzone/ZPRIV</Id><Name>example.com.</Name><CallerReference>1</CallerReference><Config><PrivateZone>true</PrivateZone></Config></HostedZone>` +
			`<HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name><CallerReference>1</CallerReference><Config><PrivateZone>false</PrivateZone></Config></HostedZone>` +
			`<HostedZone><Id>/hostedzone/Z2</Id><Name>example.net.</Name><CallerReference>1</CallerReference></HostedZone>` +
			`</HostedZones><IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListHostedZonesByNameResponse>`))
	case r.URL.Path == "/2013-04-01/hostedzone/Z1/rrset" && r.Method == http.MethodGet:
		f.route53Sets(w, strings.TrimSuffix(r.URL.Query().Get("name"), "."))
	case strings.HasPrefix(r.URL.Path, "/2013-04-01/hostedzone/Z1/rrset") && f.refuses:
		fail(http.StatusForbidden, "AccessDenied", "User is not authorized to perform: route53:ChangeResourceRecordSets")
	case strings.HasPrefix(r.URL.Path, "/2013-04-01/hostedzone/Z1/rrset"):
		var batch struct {
			Changes []struct {
				Action string
				Set    struct {
					Name   string
					Values []string `xml:"ResourceRecords>ResourceRecord>Value"`
				} `xml:"ResourceRecordSet"`
			} `xml:"ChangeBatch>Changes>Change"`
		}
		_ = xml.NewDecoder(r.Body).Decode(&batch)
		after := map[string][]string{}
		for _, c := range batch.Changes {
			name := strings.TrimSuffix(c.Set.Name, ".")
			now, seen := after[name]
			if !seen {
				now = f.values[name]
			}
			if c.Action == "DELETE" && !slices.Equal(now, c.Set.Values) || c.Action == "CREATE" && now != nil {
				fail(http.StatusBadRequest, "InvalidChangeBatch", "it is not as it was")
				return
			}
			after[name] = nil
			if c.Action == "CREATE" {
				after[name] = c.Set.Values
			}
		}
		maps.Copy(f.values, after)
		_, _ = w.Write([]byte(`<ChangeResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id>` +
			`<Status>PENDING</Status><SubmittedAt>2026-01-02T15:04:05Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>`))
	default:
		fail(http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found")
	}
}

// route53Sets is called with mu held. Like the real one it lists from a name on, also what is asked for nowhere.
func (f *fake) route53Sets(w http.ResponseWriter, name string) {
	set := `<ResourceRecordSet><Name>zzz.example.com.</Name><Type>TXT</Type><TTL>5</TTL><ResourceRecords><ResourceRecord><Value>"other"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>`
	if now := f.values[name]; now != nil {
		set = `<ResourceRecordSet><Name>` + name + `.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>`
		for _, v := range now {
			set += `<ResourceRecord><Value>` + v + `</Value></ResourceRecord>`
		}
		set += `</ResourceRecords></ResourceRecordSet>`
	}
	_, _ = w.Write([]byte(`<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ResourceRecordSets>` + set +
		`</ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>1</MaxItems></ListResourceRecordSetsResponse>`))
}

// acmeDNS is a fake of acme-dns: of each name it keeps the two newest values.
func (f *fake) acmeDNS(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.URL.Path == "/health":
	case r.URL.Path != "/update" || r.Header.Get("X-Api-User") != "user-1" || r.Header.Get("X-Api-Key") != goodSecret:
		answer(w, http.StatusUnauthorized, map[string]string{"error": "forbidden"})
	default:
		var update struct{ Subdomain, Txt string }
		_ = json.NewDecoder(r.Body).Decode(&update)
		name := update.Subdomain + ".auth.example.net"
		all := append(f.values[name], update.Txt)
		f.values[name] = all[max(0, len(all)-2):]
		answer(w, http.StatusOK, map[string]string{"txt": update.Txt})
	}
}

func endpoint(t *testing.T, of string, f *fake) Endpoints {
	t.Helper()
	switch of {
	case Cloudflare:
		return Endpoints{Cloudflare: serve(t, f.cloudflare)}
	case Azure:
		at := serve(t, f.azure)
		return Endpoints{Azure: at, AzureLogin: at}
	case Google:
		at := serve(t, f.google)
		return Endpoints{Google: at, GoogleToken: at + "/token"}
	case Route53:
		return Endpoints{Route53: serve(t, f.route53)}
	}
	u, _ := url.Parse(serve(t, f.acmeDNS))
	return Endpoints{Azure: u.String()}
}
