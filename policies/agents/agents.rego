# METADATA
# title: Agents
# description: What identities of kind agent are held for, or refused, from data.agents.
package sallyport.agents

import data.sallyport.prepared

_agent if input.identity.kind == "agent"

# METADATA
# description: Classes that no agent may run.
deny contains {
	"id": concat("", ["agents.", statement.class]),
	"message": concat("", ["agents may not run ", statement.class, " statements"]),
} if {
	_agent
	some statement in input.command.statements
	prepared.current.agents.deny[statement.class]
}

# METADATA
# description: Agents send no notifications, whose payload would leave unmasked.
deny contains {"id": "agents.notify", "message": "agents may not use LISTEN or NOTIFY"} if {
	_agent
	some statement in input.command.statements
	some feature in statement.features
	feature in {"listen", "notify"}
}

# METADATA
# description: Classes that a person has to approve.
approve contains {
	"id": concat("", ["agents.", statement.class]),
	"message": concat("", [statement.class, " by an agent needs approval"]),
} if {
	_agent
	some statement in input.command.statements
	prepared.current.agents.hold[statement.class]
}

# METADATA
# description: A kind of command that this agent never ran on this target.
approve contains {"id": "agents.novel", "message": "this agent never ran this kind of command here"} if {
	_agent
	input.command.novel
	prepared.current.agents.hold.novel
	some statement in input.command.statements
	statement.class in {"read", "write", "ddl", "dcl"}
}
