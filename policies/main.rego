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
	"verdict": "deny",
	"rules": _sorted(_deny),
	"masks": [],
	"diagnostics": labels.diagnostics,
} if {
	_denied
} else := {
	"verdict": "deny",
	"rules": [{"id": "access.none", "message": "no rule allows this command"}],
	"masks": [],
	"diagnostics": labels.diagnostics,
} if {
	count(_allow) == 0
} else := {
	"verdict": "approve",
	"rules": _sorted(_approve),
	"masks": _masks,
	"diagnostics": labels.diagnostics,
	"approval": _approval,
} if {
	count(_approve) > 0
} else := {
	"verdict": "mask",
	"rules": _sorted(_shown_as),
	"masks": _masks,
	"diagnostics": labels.diagnostics,
} if {
	count(_mask) > 0
} else := {
	"verdict": "allow",
	"rules": _sorted(_allow),
	"masks": [],
	"diagnostics": labels.diagnostics,
}

# METADATA
# title: Session decision
# description: Whether an identity may open a target at all.
# entrypoint: true
session := {"verdict": "allow", "rules": _session_rules, "masks": [], "diagnostics": "canonical"} if {
	count(access.granted) > 0
} else := {
	"verdict": "deny",
	"rules": [{
		"id": "access.target",
		"message": concat("", ["no group of ", access.who, " has access to ", input.target.name]),
	}],
	"masks": [],
	"diagnostics": "canonical",
}

_session_rules := [{
	"id": "access.target",
	"message": concat("", ["granted: ", concat(", ", sort(access.granted))]),
}]

# What the packages contribute: a new one is added to these lists.
_denials := [access.deny, agents.deny, dangerous.deny, labels.deny, shape.deny, writes.deny]

_approvals := [agents.approve]

_maskings := [labels.mask]

_allowances := [access.allow]

# Joined only where one has something: most commands are not denied.
_denied if {
	some rules in _denials
	count(rules) > 0
}

_deny contains rule if {
	some rules in _denials
	some rule in rules
}

_approve contains rule if {
	some rules in _approvals
	some rule in rules
}

_mask contains mask if {
	some masks in _maskings
	some mask in masks
}

_allow contains rule if {
	some rules in _allowances
	some rule in rules
}

_sorted(rules) := [{"id": rule.id, "message": rule.message} | some rule in sort(rules)]

_strength := {"redact": 0, "null": 1, "partial": 2, "hash": 3}

# One mask a column, sorted by column: the strongest, and of equal ones the first by its rule's id. One that names no
# column or no kind that exists is the strongest of all: the gateway refuses a decision with it, where leaving it out
# would show the column.
_masks := [mask |
	some column in sort({object.get(m, "column", "") | some m in _mask})
	ranked := sort({[_rank(m), object.get(m, "rule", ""), object.get(m, "with", "")] |
		some m in _mask
		object.get(m, "column", "") == column
	})
	mask := {"column": column, "with": ranked[0][2], "rule": ranked[0][1]}
]

_rank(mask) := object.get(_strength, object.get(mask, "with", ""), -1)

_shown_as contains {"id": mask.rule, "message": concat("", [mask.column, " is shown as: ", mask.with])} if {
	some mask in _mask
}

_approval := {
	"from": sort(data.approvers),
	"count": data.approvals.count,
	"ttl": data.approvals.ttl,
}
