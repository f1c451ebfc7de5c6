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
import data.sallyport.prepared
import data.sallyport.rules
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
	"obligations": _obligations,
} if {
	count(_approve) > 0
} else := {
	"verdict": "mask",
	"rules": _sorted(_shown_as),
	"masks": _masks,
	"diagnostics": labels.diagnostics,
	"obligations": _obligations,
} if {
	count(_mask) > 0
} else := {
	"verdict": "allow",
	"rules": _sorted(_allow),
	"masks": [],
	"diagnostics": labels.diagnostics,
	"obligations": _obligations,
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
_denials := [
	access.deny, agents.deny, dangerous.deny, labels.deny,
	rules.deny, shape.deny, writes.deny, _nobody,
]

_approvals := [agents.approve, rules.approve]

_maskings := [labels.mask]

_allowances := [access.allow]

_obligings := [rules.oblige]

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

_oblige contains obligation if {
	some obligations in _obligings
	some obligation in obligations
}

# A reason that lacks a part still counts, and says so.
_sorted(rules) := [{"id": reason[0], "message": reason[1]} |
	some reason in sort({[id, message] |
		some rule in rules
		id := object.get(rule, "id", "unnamed")
		message := object.get(rule, "message", "this rule gives no message")
	})
]

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

_kinds[shown.column] := shown.with if {
	some shown in _masks
}

# All that want a column masked, and how it is shown in the end.
_shown_as contains {"id": mask.rule, "message": message} if {
	some mask in _mask
	message := concat("", [mask.column, " is shown as: ", _kinds[mask.column]])
}

# Every rule that holds the command is satisfied by one approval: by people whom each of them names, as many as the one
# that wants most, for as long as the one that waits least.
_approval := {
	"from": sort(_approvers),
	"count": max([object.get(one, "count", data.approvals.count) | some one in _approve]),
	"ttl": sort([[prepared.milliseconds(ttl), ttl] |
		some one in _approve
		ttl := object.get(one, "ttl", data.approvals.ttl)
	])[0][1],
}

_approvers := intersection({from |
	some one in _approve
	from := {group | some group in object.get(one, "from", data.approvers)}
})

# No order between people is meaningful: where rules name none in common, nobody could approve for all of them.
_nobody contains {
	"id": "approval.nobody",
	"message": concat("", ["nobody may approve for all of ", concat(", ", sort({one.id | some one in _approve}))]),
} if {
	count(_approve) > 0
	count(_approvers) == 0
}

# The least limit and the least timeout, of equal ones the first by its rule's id; read-only where any rule says so; and
# every rate. A value of another type, or a name of no obligation, stays in the decision: the gateway refuses it.
_obligations := {} if {
	count(_oblige) == 0
} else := {name: value | some part in [_limit, _timeout, _read_only, _rates, _unknown]; some name, value in part}

_claims contains [name, value, object.get(one, "rule", "")] if {
	some one in _oblige
	some name, value in one
	name != "rule"
}

_number(value) := value if {
	is_number(value)
} else := -1

_least[obligation] := ranked[0] if {
	some obligation in {"limit", "timeout_ms"}
	ranked := sort([[_number(value), rule, value] | some [name, value, rule] in _claims; name == obligation])
}

default _limit := {}

_limit := {"limit": {"rows": _least.limit[2], "rule": _least.limit[1]}}

default _timeout := {}

_timeout := {"timeout": {"ms": _least.timeout_ms[2], "rule": _least.timeout_ms[1]}}

default _read_only := {}

_read_only := {"read_only": {"rule": asking[0]}} if {
	asking := sort([rule | some ["read_only", _, rule] in _claims])
}

default _rates := {}

_rates := {"rates": rates} if {
	rates := sort([_rate(rate, rule) | some ["rate", rate, rule] in _claims])
	count(rates) > 0
}

_rate(rate, rule) := object.union(rate, {"rule": rule}) if {
	is_object(rate)
} else := rate

_unknown[name] := value if {
	some [name, value, _] in _claims
	not name in {"limit", "timeout_ms", "read_only", "rate"}
}
