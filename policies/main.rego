# METADATA
# title: Sallyport
# description: |
#   Composes what the rule packages contribute into one decision. Resolution is fixed and total:
#   deny > approve > mask > allow, and what nothing allows is denied.
# entrypoint: false
package sallyport

import data.sallyport.access
import data.sallyport.agents
import data.sallyport.dangerous
import data.sallyport.labels
import data.sallyport.shape
import data.sallyport.writes

# METADATA
# title: Command decision
# description: The verdict on one command.
# entrypoint: true
command := {
	"verdict": _verdict,
	"rules": _rules,
	"masks": _masks,
	"diagnostics": labels.diagnostics,
} if {
	_verdict != "approve"
} else := {
	"verdict": _verdict,
	"rules": _rules,
	"masks": _masks,
	"diagnostics": labels.diagnostics,
	"approval": _approval,
}

# METADATA
# title: Session decision
# description: Whether an identity may open a target at all.
# entrypoint: true
session := {"verdict": "allow", "rules": _session_rules, "masks": [], "diagnostics": "canonical"} if {
	count(access.granted) > 0
} else := {
	"verdict": "deny",
	"rules": [{"id": "access.target", "message": sprintf("no group of %s has access to %s", [access.who, input.target.name])}],
	"masks": [],
	"diagnostics": "canonical",
}

_session_rules := [{"id": "access.target", "message": sprintf("granted: %s", [concat(", ", sort(access.granted))])}]

_deny := union({access.deny, agents.deny, dangerous.deny, labels.deny, shape.deny, writes.deny})

_approve := agents.approve

_allow := access.allow

_mask := labels.mask

default _verdict := "deny"

_verdict := "approve" if {
	count(_deny) == 0
	count(_allow) > 0
	count(_approve) > 0
} else := "mask" if {
	count(_deny) == 0
	count(_allow) > 0
	count(_mask) > 0
} else := "allow" if {
	count(_deny) == 0
	count(_allow) > 0
}

default _rules := [{"id": "access.none", "message": "no rule allows this command"}]

_rules := _sorted(_deny) if {
	count(_deny) > 0
} else := _sorted(_approve) if {
	_verdict == "approve"
} else := _sorted({{"id": m.rule, "message": sprintf("%s is shown as: %s", [m.column, m.with])} | some m in _mask}) if {
	_verdict == "mask"
} else := _sorted(_allow) if {
	_verdict == "allow"
}

_sorted(rules) := [{"id": rule.id, "message": rule.message} | some rule in sort(rules)]

_strength := {"redact": 0, "null": 1, "partial": 2, "hash": 3}

_masks := [mask |
	_verdict in {"mask", "approve"}
	some column in sort({m.column | some m in _mask})
	ranked := sort({[_strength[m.with], m.rule, m.with] | some m in _mask; m.column == column})
	mask := {"column": column, "with": ranked[0][2], "rule": ranked[0][1]}
]

_approval := {
	"from": sort(data.approvers),
	"count": data.approvals.count,
	"ttl": data.approvals.ttl,
}
