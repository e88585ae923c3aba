package httpx

import (
	"strconv"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// ETag is the strong entity tag (RFC 9110 section 8.8.3) of a resource at a revision: a number that grows with every
// change of what the resource shows.
func ETag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// Match holds an update to the revision that its sender has seen, by the header If-Match: nil, empty and * are no
// condition, else one of the tags listed must be that of the revision. The error is Precondition. Tags are compared
// strongly, so a weak one never matches.
//
// A check of a row that was read before is not enough where others may write at the same time: the statement that
// writes must name the revision too.
func Match(ifMatch *string, revision int64) error {
	if ifMatch == nil {
		return nil
	}
	condition := strings.TrimSpace(*ifMatch)
	if condition == "" || condition == "*" {
		return nil
	}
	// A tag of ours holds no comma, so a list can be split at them.
	for tag := range strings.SplitSeq(condition, ",") {
		if strings.TrimSpace(tag) == ETag(revision) {
			return nil
		}
	}
	return fault.New(fault.Precondition,
		"it has changed since you read it: If-Match is %s and its entity tag is now %s; get it again and apply your change to that", condition, ETag(revision))
}
