/** One or more ways to break each invariant. Search texts are short, so that a change elsewhere leaves them alone. */
import type { Edit, Mutation, TestToFail } from "./mutation.ts";

const test = (file: string, name: string): TestToFail => ({ kind: "test", file: `gateway/${file}`, name });
const edit = (file: string, search: string, replace: string): Edit => ({ file: `gateway/${file}`, search, replace });
const one = (
  invariant: Mutation["invariant"],
  what: string,
  change: Edit,
  noticed: TestToFail,
  ...more: readonly Edit[]
): Mutation => ({ invariant, what, edits: [change, ...more], test: noticed });
/** An import that the layers forbid, before a file's first. */
const imports = (what: string, file: string, from: string): Mutation => ({
  ...{ invariant: 7, what, test: { kind: "lint", file: `gateway/${file}` } },
  edits: [edit(file, "export class", `import "${from}";\n\nexport class`)],
});

export const mutations: readonly Mutation[] = [
  one(
    1,
    "strict does not wait for the disk",
    edit("recording/writer.ts", "return this.#journal.synced();", "return void this.#journal.synced();"),
    test("durability.live.test.ts", "a statement waits until the disk has its intent"),
  ),
  one(
    1,
    "an undefined decision allows",
    edit(
      "policy/engine.ts",
      "if (value === undefined) return",
      'if (value === undefined) return { ...undefinedDecision, verdict: "allow" }; else if (!value) return',
    ),
    test("policy/policy.test.ts", "an undefined decision is a deny that names its rule"),
  ),
  one(
    1,
    "a setting that a role carries is judged by nobody",
    edit("postgres/sql/definition.ts", 'if (key === "setstmt" || key === "VariableSetStmt")', "if (false as boolean)"),
    test("postgres/sql/analyse.test.ts", "has feature"),
  ),
  one(
    1,
    "PostgreSQL's own functions get other names",
    edit("postgres/sql/definition.ts", "if (namesSystemObject(body, findings.context))", "if (false as boolean)"),
    test("postgres/sql/analyse.test.ts", "what cannot be accounted for is incomplete"),
  ),
  one(
    1,
    "a function is PostgreSQL's own where its schema's name only begins so",
    edit("postgres/sql/names.ts", "[^.]*$/.test(name)", "/.test(name)"),
    test("postgres/sql/analyse.test.ts", "what a user made is a user's, however its schema is called"),
  ),
  one(
    1,
    "functions get another name with their schema",
    edit("postgres/sql/definition.ts", 'if (body.renameType === "OBJECT_SCHEMA")', "if (false as boolean)"),
    test("postgres/sql/analyse.test.ts", "so are all functions of a schema that gets another name"),
  ),
  one(
    1,
    "a partition is attached whatever the bounds above say of its values",
    edit("postgres/sql/definition.ts", "findings.context.catalog.withAncestors([table])", "[table]"),
    test("postgres/sql/analyse.test.ts", "alter table sub_parted attach partition people"),
  ),
  one(
    1,
    "a schema by another name is told to nobody who waits",
    edit("postgres/sql/analyse.ts", 'if (relations.length === 0) return "anything";', ""),
    test("postgres/sql/analyse.test.ts", "what others may have to read again"),
  ),
  one(
    3,
    "whether a computed value is NULL is shown",
    edit("postgres/run.ts", "derived && masker ? alike(masker) : masker", "masker"),
    test("gateway.live.test.ts", "nor whether it is NULL"),
  ),
  one(
    1,
    "set_config counts as SET wherever it is called",
    edit("postgres/sql/set-config.ts", " || !isOnce(select)", ""),
    test("postgres/sql/analyse.test.ts", "and nothing else"),
  ),
  one(
    1,
    "a policy that fails allows",
    edit("session/denial.ts", '{ verdict: "deny",', '{ verdict: "allow",'),
    test("session/session.test.ts", "a policy that fails denies the command, and says so in the recording"),
  ),
  one(
    1,
    "a session that policy refuses is opened",
    edit("session/session.ts", 'if (decision.verdict !== "allow") {', "if (false as boolean) {"),
    test("session/session.test.ts", "a session that policy does not allow is not opened, and its refusal is recorded"),
  ),
  one(
    1,
    "anything is a permit",
    edit("session/session.ts", "if (!IssuedPermit.is(permit))", "if (false as boolean)"),
    test("session/session.test.ts", "a permit is what the pipeline made, and nothing that looks like one"),
  ),
  one(
    1,
    "a command is judged after the token expired",
    edit("session/session.ts", "if (atMs >= this.expiresAtMs)", "if (false as boolean)"),
    test("session/session.test.ts", "nothing is judged once the token has expired"),
  ),
  one(
    1,
    "a denied command is forwarded as it came",
    edit(
      "postgres/machine.ts",
      'this.#send({ type: "Query", query: refusedStatement });',
      'this.#send({ type: "Query", query: "select 1" });',
    ),
    test("postgres/server.live.test.ts", "a denial is 42501, the connection lives on"),
  ),
  one(
    1,
    "the store's commit is acknowledged before it is written",
    edit(
      "recording/worker.ts",
      "const writing = writer.write(Array.from(batch, (session) => session.written()));",
      "const rows = Array.from(batch, (session) => session.written()); const writing = void setTimeout(() => writer.write(rows), 50);",
    ),
    test("recording/writer.test.ts", "an event that is changed or taken out is found"),
  ),
  one(
    1,
    "an intent is acknowledged before it is on disk",
    edit("recording/journal.ts", "    // In another thread: a slow disk", "    this.#underWay?.resolve();\n    // "),
    test("durability.live.test.ts", "a statement waits until the disk has its intent"),
  ),
  one(
    1,
    "a disk that fails is passed over",
    edit("recording/journal.ts", "error ?? faultOf(file, this.#at)", "faultOf(file, this.#at)"),
    test("durability.live.test.ts", "a statement whose intent cannot be on disk does not run"),
  ),
  one(
    1,
    "the journal is begun again before the store has what it held",
    edit("recording/journal.ts", "this.#otherIsFree.then(began)", "Promise.resolve().then(began)"),
    test("recording/journal.test.ts", "no file is begun again before the store has on disk what it held"),
  ),
  one(
    1,
    "what is being written counts as on disk",
    edit("recording/journal.ts", "return this.#underWay?.promise;", "return undefined;"),
    test("recording/journal.test.ts", "waits end in the order in which they began"),
  ),
  one(
    1,
    "a recording that is closed goes on acknowledging",
    edit("recording/writer.ts", "if (this.#closed) throw", "if (false as boolean) throw"),
    test("recording/journal.test.ts", "what is shutting down acknowledges nothing that it would lose"),
  ),
  one(
    1,
    "what a killed gateway acknowledged is not taken into the store",
    edit("recording/worker.ts", "if (lacking.length > 0) await writer.write(lacking);", ""),
    test("recording/journal.test.ts", "what strict has acknowledged is there after a power cut"),
  ),
  one(
    1,
    "a record of the journal counts that was never written whole",
    edit("recording/journal.ts", "!== file.readUInt32BE(at + 4)) break;", "=== -1) break;"),
    test("recording/journal.test.ts", "a record that is cut or damaged anywhere ends it"),
  ),

  one(
    2,
    "a password may be logged",
    edit("log.ts", "token|password|passwd|pwd|passphrase", "token|passwd|pwd|passphrase"),
    test("log.test.ts", "never writes a value under a key that names a secret, at any depth"),
  ),
  one(
    2,
    "a token may be logged inside a text",
    edit("log.ts", "clean = clean.replace(pattern, replacement);", "clean.replace(pattern, replacement);"),
    test("log.test.ts", "cuts token-like text out of strings"),
  ),
  one(
    2,
    "the password of a role is recorded",
    edit("recording/redaction.ts", "result = result.replace(literal,", "result.replace(literal,"),
    test("recording/redaction.test.ts", "takes the secret out of"),
  ),
  one(
    2,
    "a caller is told the target's words of a refused login",
    edit("postgres/upstream-auth.ts", "`the target refused the gateway's login (", "fields.M + `("),
    test("postgres/upstream.live.test.ts", "refuses a wrong password, a missing one and an unknown database"),
  ),

  one(
    3,
    "the recording gets the row as the target sent it",
    edit("postgres/run.ts", "row(new Frame(backendType.DataRow, writer.peek(before + 5)))", "row(frame)"),
    test("postgres/server.live.test.ts", "a masked column is masked in simple, extended and binary reads"),
  ),
  one(
    3,
    "a value of a type that no mask knows is shown",
    edit("masking/mask.ts", "default:\n      return toNull;", "default:\n      return (value) => value;"),
    test("masking/mask.test.ts", "makes NULL of a type it does not know"),
  ),
  one(
    3,
    "a statement's secrets are recorded",
    edit("session/command.ts", "redactedStart(text, redact,", "text.slice(0,"),
    test("session/session.test.ts", "a secret that the cut of a text or parameter falls into leaves no part of itself"),
  ),
  one(
    3,
    "a key in a target's error is recorded",
    edit("recording/encode.ts", "redactedJson(error, limits.recordedFieldLengthMax)", "JSON.stringify(error)"),
    test("invariants.live.test.ts", "a key that a caller writes is in no event of the recording"),
  ),
  one(
    3,
    "a key in a row is recorded",
    edit("recording/encode.ts", "redactedJson(event.rows)", "JSON.stringify(event.rows)"),
    test("invariants.live.test.ts", "a key that a caller writes is in no event of the recording"),
  ),
  one(
    3,
    "a parameter is cut before its secrets are found",
    edit("session/command.ts", "max + limits.tokenBytesMax", "max"),
    test("session/session.test.ts", "a secret that the cut of a text or parameter falls into leaves no part of itself"),
  ),

  one(
    4,
    "a decoder lets bytes too many through",
    edit("postgres/reader.ts", "if (this.remaining !== 0)", "if (false as boolean)"),
    test("postgres/codec.test.ts", "refuses every message that is cut short or has a byte too many"),
  ),
  one(
    4,
    "a length below that of itself is taken",
    edit("postgres/reader.ts", "if (length < 4)", "if (length < -9)"),
    test("postgres/codec.test.ts", "with a length of"),
  ),
  one(
    4,
    "what was sent before TLS is taken",
    edit("postgres/handshake.ts", "if (this.reader.bufferedBytes > 0) {", "if (false as boolean) {"),
    test("gateway.live.test.ts", "bytes sent in clear behind the request for TLS are refused"),
    edit("postgres/handshake.ts", "if (chunk[0] !== 0x16) early = true;", ""),
  ),

  one(
    5,
    "whether a pattern was new is recorded wrong",
    edit("session/session.ts", "novel: judged.novel,", "novel: !judged.novel,"),
    test("invariants.live.test.ts", "each recorded verdict comes again from the recording alone"),
  ),
  one(
    5,
    "a verdict names another revision",
    edit("session/session.ts", "revision: judged.policy.revision.digest,", 'revision: "sha256:other",'),
    test("invariants.live.test.ts", "each recorded verdict comes again from the recording alone"),
  ),
  one(
    5,
    "a deployment's data is not part of the revision",
    edit("policy/bundle.ts", " digest = sha256(", " sha256("),
    test("policy/policy.test.ts", "merges the deployment's data"),
  ),

  one(
    6,
    "one upstream serves everybody",
    edit(
      "postgres/server.ts",
      'import { connectUpstream } from "./upstream.ts";',
      'import { connectUpstream as connectAnew } from "./upstream.ts";\nlet shared: ReturnType<typeof connectAnew> | undefined;\nconst connectUpstream: typeof connectAnew = (options) => (shared ??= connectAnew(options));',
    ),
    test("invariants.live.test.ts", "each session has a backend of its own"),
  ),
  one(
    6,
    "any key cancels another's command",
    edit("postgres/server.ts", "timingSafeEqual(secretKey, request.secretKey)", "secretKey.length > 0"),
    test("postgres/drivers.live.test.ts", "a cancel request with another key than the session's own cancels nothing"),
  ),
  one(
    6,
    "a caller may name another user",
    edit("postgres/server.ts", "requireUser(authenticated.identity, user);", ""),
    test("postgres/drivers.live.test.ts", "is refused at login in words that drivers know"),
  ),

  imports("the session pipeline imports a protocol", "session/novelty.ts", "../postgres/upstream.ts"),
  imports("policy imports the session pipeline", "policy/decision-cache.ts", "../session/clock.ts"),
  imports("a protocol imports the API", "postgres/registry.ts", "../api/http.ts"),

  one(
    8,
    "a client that does not read does not stop its target",
    edit("postgres/connection.ts", "this.#upstream.pause()", "undefined"),
    test("invariants.live.test.ts", "a client that stops reading stops its upstream"),
  ),
  one(
    8,
    "a full target does not stop its client",
    edit(
      "postgres/connection.ts",
      "if (this.#upstream.write(bytes)) return;",
      "if (this.#upstream.write(bytes) || true) return;",
    ),
    test("invariants.live.test.ts", "a COPY into a target that stalls stops its client"),
  ),
  one(
    8,
    "prepared texts are not counted",
    edit("postgres/registry.ts", "this.#length += length;", ""),
    test("postgres/registry.test.ts", "texts together have a bound"),
  ),

  one(
    8,
    "what waited while its batch failed is sent to a target that answers nothing",
    edit("postgres/machine.ts", "if (this.#batch.failed || this.#abandoned) {", "if (this.#abandoned) {"),
    test("postgres/server.live.test.ts", "a command that waited while its batch failed is passed over"),
  ),
  one(
    8,
    "a cancel of a command that waits for the store is lost",
    edit("postgres/machine.ts", "    this.#withdrawn = true;\n", ""),
    test("postgres/server.live.test.ts", "a cancel that comes while the"),
  ),
  one(
    8,
    "a cancel while the session is idle is kept for the next command",
    edit("postgres/machine.ts", "if (!this.#preparing || this.expected", "if (this.expected"),
    test("postgres/server.live.test.ts", "a cancel while nothing runs is not for the next command"),
  ),
  one(
    8,
    "a cancel of a command that waits for its record goes to a target that does not have it",
    edit(
      "postgres/connection.ts",
      "const refusal = next && this.#machine.refuseUnsent(next.bytes, next.first);",
      "const refusal = undefined as Buffer | undefined;",
    ),
    test("postgres/server.live.test.ts", "a cancel that comes while the"),
  ),
  one(
    1,
    "in strict nobody looks whether the store's log was cut",
    edit("recording/worker.ts", "  lookSoon();\n", '  if (durability === "group") lookSoon();\n'),
    test("recording/writer.test.ts", "a store's log that is cut while it is written"),
  ),
  one(
    8,
    "each message of a COPY is kept by itself",
    edit("postgres/capture.ts", "this.#copy.raw(data);", "this.#copy.raw(data); this.#kept.push(Buffer.from(data));"),
    test("postgres/capture.test.ts", "data in messages of no bytes"),
    edit("postgres/capture.ts", "  #rows = 0;\n", "  #rows = 0;\n  readonly #kept: Buffer[] = [];\n"),
  ),
  one(
    "also",
    "names are not read again once DDL has taken effect",
    edit(
      "postgres/catalogs.ts",
      "this.#tellOthers(this.#unsettled.shift()?.changes ?? []);",
      "this.#unsettled.shift();",
    ),
    test("invariants.live.test.ts", "is read again by another session that read names while"),
  ),
  one(
    "also",
    "functions are not read again once a schema has another name",
    edit("postgres/sql/load-catalog.ts", '["server", "pg_namespace", ...relations]', '["server", ...relations]'),
    test("postgres/sql/load-catalog.live.test.ts", "is what a first reading gives after any change"),
  ),
  one(
    "also",
    "a target of any version is taken",
    edit("postgres/upstream.ts", "major >= versions.oldest && major <= versions.newest", "major >= 0"),
    test("postgres/upstream.live.test.ts", "is refused as PostgreSQL "),
  ),
  one(
    3,
    "partial shows the year in the session's zone",
    edit("masking/mask.ts", "if (typeOid === oid.timestamptz) return utcYearOf(text);", ""),
    test("masking/mask.live.test.ts", "the year that partial leaves of a time is the same"),
  ),
  one(
    "also",
    "a withheld error names what the statement does not",
    edit(
      "postgres/diagnostics.ts",
      "const isNamed = fields.t === undefined ||",
      "const isNamed = fields.t !== undefined ||",
    ),
    test("invariants.live.test.ts", "a withheld error names no relation"),
  ),
  one(
    "also",
    "a name counts though what it stands for is not settled",
    edit("postgres/registry.ts", "pending.batch !== batch", "false as boolean"),
    test("postgres/registry.test.ts", "a name proposed by an earlier unanswered batch is unsettled"),
  ),
  one(
    "also",
    "a labelled column that was not foreseen is shown",
    edit("postgres/run.ts", 'throw mismatch("a labelled column where none was expected")', "void 0"),
    test("postgres/server.live.test.ts", "a labelled column that was not foreseen ends the session"),
    edit("postgres/run.ts", 'throw mismatch("another column in the place of a masked one")', "void 0"),
  ),
  one(
    "also",
    "rows behind a limit are shown",
    edit("postgres/row-limit.ts", "if (this.#left === 0)", "if (this.#left < 0)"),
    test("obligations.live.test.ts", "a result is cut behind the limit"),
  ),
  one(
    "also",
    "a COPY has no limit",
    edit("postgres/row-limit.ts", "return this.cuts();", "return false;"),
    test("obligations.live.test.ts", "COPY is cut too"),
  ),
  one(
    "also",
    "a limit counts each result of a message by itself",
    edit(
      "postgres/row-limit.ts",
      "this.#shown = 0;\n    this.#copy",
      "this.#left += this.#shown; this.#shown = 0;\n    this.#copy",
    ),
    test("obligations.live.test.ts", "a result is cut behind the limit"),
  ),
  one(
    "also",
    "a rate that is used up refuses nothing",
    edit("session/session.ts", "const usedUp = rates &&", "const usedUp = false as never &&"),
    test("obligations.live.test.ts", "a rate holds over all sessions"),
  ),
  one(
    "also",
    "what a caller sets stays for an obliged command",
    edit("postgres/enforced-settings.ts", "!this.#uncertain && !changesNothing(analysis)", "false as boolean"),
    test("obligations.live.test.ts", "a statement is timed out by the target"),
  ),
  one(
    "also",
    "what an error took back is not set again",
    edit("postgres/enforced-settings.ts", "noteError(): void {\n    this.#uncertain = true;", "noteError(): void {"),
    test("obligations.live.test.ts", "a statement is timed out by the target"),
  ),
  one(
    "also",
    "a transaction that was begun read-write stays so",
    edit("postgres/enforced-settings.ts", "...(readOnly ? [", "...((false as boolean) ? ["),
    test("obligations.live.test.ts", "a read-only obligation is the target's to keep"),
  ),
  one(
    "also",
    "a message may lift what the rest of it is obliged to",
    edit("postgres/enforced-settings.ts", "return count > 1 &&", "return count > 99 &&"),
    test("obligations.live.test.ts", "could lift what it is obliged to"),
  ),
  one(
    "also",
    "two gateways write one store",
    edit("store/lock.ts", "begin exclusive", "begin"),
    test("recording/writer.test.ts", "a store that is a file has one writer"),
  ),
  one(
    "also",
    "a held command runs by labels that changed meanwhile",
    edit("session/session.ts", "return !sameLabels(", "return false && !sameLabels("),
    test("reload.live.test.ts", "a held command does not run by labels that changed meanwhile"),
  ),
  one(
    "also",
    "a held command runs by names that changed meanwhile",
    edit("postgres/machine.ts", 'meaningOf(now) === meaningOf(judged) ? "same"', 'true ? "same"'),
    test("reload.live.test.ts", "names that change while a command is held"),
  ),
  one(
    "also",
    "an approval outlives what policy asked for",
    edit("session/session.ts", "const again = meaning", 'const again = meaning === "same" ? decision : meaning'),
    test("session/session.test.ts", "a command that was held is judged again when it was approved"),
  ),
  one(
    "also",
    "somebody approves their own command",
    edit("api/approval-rules.ts", "if (samePerson(caller, held.requester))", "if (false as boolean)"),
    test("api/approval-rules.test.ts", "nobody decides their own"),
  ),
  one(
    "also",
    "the store lets somebody approve their own command",
    edit("store/queries.ts", "if (samePerson(decide.by, row))", "if (false as boolean)"),
    test("store/queries.test.ts", "nobody approves their own, and not after it expired or was denied"),
  ),
  one(
    "also",
    "an agent approves",
    edit("api/approval-rules.ts", 'if (caller.kind !== "human")', "if (false as boolean)"),
    test("api/approval-rules.test.ts", "an agent never decides, whatever its groups"),
  ),
  one(
    "also",
    "an approval is used for another command",
    edit("store/queries.ts", "eq(approvals.digest, use.digest),", ""),
    test("store/queries.test.ts", "an approval is used once, and only for what it was given for"),
  ),
  one(
    "also",
    "the chain does not depend on what came before",
    edit("recording/chain.ts", ".update(hash).update(line)", ".update(line)"),
    test("recording/redaction.test.ts", "the chain depends on the session, each line and their order"),
  ),
  one(
    "also",
    "a seal is not held against the one before it",
    edit("recording/seal.ts", "if (!previous.equals(Buffer.from(follows)))", "if (false as boolean)"),
    test("recording/writer.test.ts", "a seal changed with them no longer fits its hash"),
  ),
  one(
    "also",
    "any algorithm that the key fits is taken",
    edit("identity/verifier.ts", "!algorithms.includes(header.alg)", "(false as boolean)"),
    test("identity/verifier.test.ts", "refuses an algorithm that the issuer's configuration does not list"),
    edit("identity/verifier.ts", "algorithms: config.algorithms,", ""),
  ),
  one(
    "also",
    "a token for another audience is taken",
    edit("identity/verifier.ts", "audience: config.audience,", ""),
    test("identity/verifier.test.ts", "refuses another audience"),
  ),
  one(
    "also",
    "an evaluation that hangs is not ended",
    edit("policy/watchdog-worker.ts", "SIGKILL", "SIGCONT"),
    test("policy/policy.test.ts", "the watchdog ends a process whose evaluation hangs"),
  ),
];
