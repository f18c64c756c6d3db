package policy

import "fmt"

var decisionNames = [...]string{Pending: "pending", Allow: "allow", Quarantine: "quarantine"}

// String is the decision's name: "allow", "quarantine", "pending". A number that is no
// decision reads as pending, which serves nothing.
func (d Decision) String() string {
	if d < Pending || d > Quarantine {
		return decisionNames[Pending]
	}
	return decisionNames[d]
}

// MarshalText writes the decision's name.
func (d Decision) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote. Any other text is an error and leaves
// Pending.
func (d *Decision) UnmarshalText(text []byte) error {
	*d = Pending
	for i, name := range decisionNames {
		if string(text) == name {
			*d = Decision(i)
			return nil
		}
	}
	return fmt.Errorf("decision %.20q is none of allow, quarantine, pending", text)
}

// strictness orders decisions: one that may yet turn holds back more than Allow, and a
// judged refusal more than that.
func (d Decision) strictness() int {
	switch d {
	case Allow:
		return 0
	case Quarantine:
		return 2
	}
	return 1
}
