package policy

// Worst is the verdict on an index, from those on its platforms: held back if one of
// them is, else Pending if one is or if there are none, else allowed. Each reason is
// marked with its Verdict's Platform.
func Worst(verdicts ...Verdict) Verdict {
	if len(verdicts) == 0 {
		return Verdict{Decision: Pending, Reasons: []Reason{{Rule: "not-judged", Message: "none of its images is judged yet"}}}
	}
	worst := Verdict{Decision: Allow}
	for _, v := range verdicts {
		if v.Decision.strictness() > worst.Decision.strictness() {
			worst.Decision, worst.Policy = v.Decision, v.Policy
		}
		if worst.Policy == "" {
			worst.Policy = v.Policy
		}
		if v.At.After(worst.At) {
			worst.At = v.At
		}
		worst.Until = earlier(worst.Until, v.Until)
	}
	// Reasons of what decided, then all others as remarks.
	var notes []Reason
	for _, v := range verdicts {
		if len(v.Reasons) == 0 && v.Decision != Allow {
			v.Reasons = []Reason{{Rule: "not-judged", Message: "not judged yet"}}
		}
		for _, r := range v.Reasons {
			if v.Platform != "" {
				r.Message = v.Platform + ": " + r.Message
			}
			if r.Note || v.Decision != worst.Decision {
				r.Note = true
				notes = append(notes, r)
				continue
			}
			worst.Reasons = append(worst.Reasons, r)
		}
	}
	worst.Reasons = append(worst.Reasons, notes...)
	return worst
}
