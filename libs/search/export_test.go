package search

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Evaluate is what CEL itself says of an expression over one row. An error, of a key that is not there, is false.
func (l *Language) Evaluate(text string, at time.Time, row map[string]any) (bool, error) {
	env, err := l.env.Extend(cel.Function(now, cel.Overload(now, nil, cel.TimestampType,
		cel.FunctionBinding(func(...ref.Val) ref.Val { return types.Timestamp{Time: at} }))))
	if err != nil {
		return false, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return false, issues.Err()
	}
	program, err := env.Program(checked)
	if err != nil {
		return false, err
	}
	out, _, err := program.Eval(row)
	return err == nil && out == types.True, nil
}
