# METADATA
# title: Agents
# description: What identities of kind agent are held for, or refused, from data.agents.
package sallyport.agents

_agent if input.identity.kind == "agent"

# METADATA
# description: Classes that no agent may run.
deny contains {"id": sprintf("agents.%s", [statement.class]), "message": sprintf("agents may not run %s statements", [statement.class])} if {
	_agent
	some statement in input.command.statements
	statement.class in data.agents.deny
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
approve contains {"id": sprintf("agents.%s", [statement.class]), "message": sprintf("%s by an agent needs approval", [statement.class])} if {
	_agent
	some statement in input.command.statements
	statement.class in data.agents.hold
}

# METADATA
# description: A kind of command that this agent never ran on this target.
approve contains {"id": "agents.novel", "message": "this agent never ran this kind of command here"} if {
	_agent
	input.command.novel
	"novel" in data.agents.hold
	some statement in input.command.statements
	statement.class in {"read", "write", "ddl", "dcl"}
}
