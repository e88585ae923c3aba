package deployment_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
)

// answerHTTP01 asks as the issuer does.
func (p *platform) answerHTTP01(a command.AnswerHTTP01) error {
	p.Helper()
	body, err := json.Marshal(a)
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	res, err := p.core.NC.RequestWithContext(ctx, subject.Operation("deployment", "answerHTTP01"), body)
	if err != nil {
		p.Fatal(err)
	}
	var reply command.Reply[command.AnsweredHTTP01]
	if err := json.Unmarshal(res.Data, &reply); err != nil {
		p.Fatal(err)
	}
	if reply.Fault != nil {
		return fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
	}
	if reply.Body == nil {
		p.Fatalf("answered %s", res.Data)
	}
	return nil
}

func question(job, agent string) command.AnswerHTTP01 {
	return command.AnswerHTTP01{ID: job, AgentID: agent, HTTP01: command.HTTP01{
		Answers: []command.HTTP01Answer{{Token: "token", KeyAuthorization: "token.thumbprint"}}, Until: time.Now().Add(time.Minute).UTC(),
	}}
}

func TestHTTP01_IsShownByTheAgentBeforeTheAskerIsAnsweredAndTakenBack(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	a.behave = func(c command.AgentCommand) []command.AgentReport {
		return []command.AgentReport{about(c, command.OutcomeCompleted)}
	}
	p.leaf(a)
	q := question("job-h-1", a.id)
	if err := p.answerHTTP01(q); err != nil {
		t.Fatal(err)
	}
	orders := a.orders()
	if len(orders) != 1 || orders[0].Verb != command.VerbHTTP01 || orders[0].Attempt != 1 {
		t.Fatalf("the agent got %+v", orders)
	}
	var body command.HTTP01
	if err := json.Unmarshal(orders[0].Body, &body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(q.HTTP01, body); diff != "" {
		t.Error(diff)
	}
	q.Withdraw = true
	if err := p.answerHTTP01(q); err != nil {
		t.Fatal(err)
	}
	p.until("it was taken back", func() bool { return len(a.orders()) == 2 })
	if last := a.orders()[1]; last.Attempt != 2 || last.JobID != "job-h-1" || !strings.Contains(string(last.Body), `"withdraw":true`) {
		t.Errorf("the agent got %+v", last)
	}
}

func TestHTTP01_ThatAnAgentCannotShowIsRefusedInItsWords(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	a.behave = func(c command.AgentCommand) []command.AgentReport {
		r := about(c, command.OutcomeFailed)
		r.Error, r.Permanent = "port 80 is taken", true
		return []command.AgentReport{r}
	}
	p.leaf(a)
	if err := p.answerHTTP01(question("job-h-1", a.id)); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "port 80 is taken") {
		t.Errorf("got %v", err)
	}
	for name, c := range map[string]struct {
		q    command.AnswerHTTP01
		code fault.Code
	}{
		"an agent that there is not": {question("job-h-2", "agent-none"), fault.Unavailable},
		"somebody else's job":        {question("job-d-1", a.id), fault.Invalid},
		"no job":                     {question("", a.id), fault.Invalid},
		"nothing to show":            {command.AnswerHTTP01{ID: "job-h-3", AgentID: a.id}, fault.Invalid},
	} {
		if err := p.answerHTTP01(c.q); fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(a.orders()); n != 1 {
		t.Errorf("the agent got %d orders", n)
	}
}

func TestHTTP01_ThatWasTakenBackBeforeItWasShownIsNotShown(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	q := question("job-h-1", a.id)
	q.Withdraw = true
	if err := p.answerHTTP01(q); err != nil {
		t.Fatal(err)
	}
	if err := p.answerHTTP01(question("job-h-1", a.id)); err == nil {
		t.Error("it is shown after it was taken back")
	}
}
