/**
 * The target's half of a session: each message is decoded, matched with what the target owed (`expected.ts`), masked
 * and recorded, and re-framed for the client. A message that nothing asked for, or a setting that would change how
 * text is read, ends the session.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeBackendMessage, decodeDataRow, decodeRowDescription } from "./backend-decoder.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import { canonicalFields, isPassing } from "./diagnostics.ts";
import type { Expected } from "./expected.ts";
import type { Machine } from "./machine.ts";
import { type BackendMessage, backendType, type NoticeFields } from "./messages.ts";
import type { Frame } from "./reader.ts";
import type { Run } from "./run.ts";
import { checkReportedSetting } from "./text-settings.ts";
import type { MessageWriter } from "./writer.ts";

/** Settings whose report a client may see; other reports could carry values. */
const reported = new Set([
  "application_name",
  "client_encoding",
  "datestyle",
  "default_transaction_read_only",
  "in_hot_standby",
  "integer_datetimes",
  "intervalstyle",
  "is_superuser",
  "scram_iterations",
  "search_path",
  "server_encoding",
  "server_version",
  "session_authorization",
  "standard_conforming_strings",
  "timezone",
]);

/** @throws GatewayError upstream.protocol when text would be read in another way than it was judged */
export function checkParameter(name: string, value: string): boolean {
  checkReportedSetting(name, value);
  return reported.has(name.toLowerCase());
}

/** Something that has results. */
type Answered = Extract<Expected, { kind: "query" | "execute" }>;

/** What each completion answers. */
const completes = { ParseComplete: "parse", BindComplete: "bind", CloseComplete: "close" } as const;

export class Responses {
  readonly #machine: Machine;
  readonly #out: MessageWriter;
  #noticeCount = 0;
  /** The transaction ran something of which only canonical errors may be shown. */
  #canonicalBefore = false;
  /** Of the answer to the gateway's own query, so far. */
  #internalBytes = 0;
  #saidGoodbye = false;
  /** The target skips to a Sync that had not been forwarded when it began to. */
  #skipping = false;

  /** @param out what goes to the client; its owner takes it after each chunk */
  constructor(machine: Machine, out: MessageWriter) {
    this.#machine = machine;
    this.#out = out;
  }

  /** The client was told by the target itself why it closes. */
  get saidGoodbye(): boolean {
    return this.#saidGoodbye;
  }

  handle(frame: Frame): void {
    const [head] = this.#machine.expected;
    if (head !== undefined && head.kind !== "internal") {
      switch (frame.type) {
        case backendType.DataRow:
          if (head.kind !== "query" && head.kind !== "execute") break;
          head.run.row(this.#out, frame);
          if (head.run.limit?.cut === true) this.#stop(head);
          return;
        case backendType.CopyData:
          if (head.kind !== "query" && head.kind !== "execute") break;
          if (!head.run.copy("out", frame.payload)) return this.#stop(head);
          this.#out.message(backendType.CopyData, frame.bytes, frame.start, frame.end);
          return;
        case backendType.RowDescription:
          return this.#description(head, frame);
      }
    }
    const message = decodeBackendMessage(frame);
    switch (message.type) {
      case "NoticeResponse":
        return this.#notice(message.fields);
      case "ParameterStatus":
        if (checkParameter(message.name, message.value)) this.#pass(message);
        return;
      case "NotificationResponse":
        return this.#pass(message);
      case "ErrorResponse":
        return this.#error(message.fields);
    }
    if (head === undefined) throw unexpected(message);
    if (head.kind === "internal") return this.#internal(head, message, frame);
    if (head.kind === "settings") return this.#settings(head, message, frame);
    this.#answer(head, message);
  }

  /** More rows than policy lets through: asks the target for no more of them, once. */
  #stop(head: Answered): void {
    const { limit } = head.run;
    if (limit === undefined || limit.stopping || !this.#machine.stopEarly(head)) return;
    limit.stopping = true;
  }

  #settings(head: Extract<Expected, { kind: "settings" }>, message: BackendMessage, frame: Frame): void {
    switch (message.type) {
      case "DataRow":
        head.row = decodeDataRow(frame).map((value) => value?.toString("utf8") ?? null);
        return;
      case "ParseComplete":
      case "BindComplete":
      case "CommandComplete":
        return;
      case "CloseComplete":
        if (--head.closing > 0) return;
        this.#machine.outgoing.ownLeft = false;
        this.#machine.settings.noteAnswered(head.row);
        return this.#shift();
      default:
        throw unexpected(message);
    }
  }

  #answer(head: Exclude<Expected, { kind: "internal" | "settings" }>, message: BackendMessage): void {
    switch (message.type) {
      case "ParseComplete":
      case "BindComplete":
      case "CloseComplete":
        if (!("change" in head) || head.kind !== completes[message.type]) throw unexpected(message);
        this.#machine.names.settle(head.change, true);
        this.#shift();
        return this.#pass(message);
      case "ParameterDescription":
        if (head.kind !== "describeStatement") throw unexpected(message);
        head.parametersSeen = true;
        return this.#pass(message);
      case "NoData":
        if (head.kind !== "describePortal" && !this.#isDescribed(head)) throw unexpected(message);
        this.#shift();
        if (head.kind !== "describePortal" || head.answers) this.#pass(message);
        return;
      case "CommandComplete":
      case "EmptyQueryResponse":
        return this.#complete(head, message.type === "CommandComplete" ? message.tag : "", message);
      case "PortalSuspended":
        if (head.kind !== "execute") throw unexpected(message);
        // What is left of it is more than policy lets through.
        if (head.run.limit?.cut === true) return this.#complete(head, "SELECT 0", message);
        head.run.suspend();
        head.portal.started = true;
        if (head.run.canonical) this.#canonicalBefore = true;
        head.run.limit?.endResult("");
        this.#machine.names.settle(head.change, false);
        this.#shift();
        return this.#pass(message);
      case "CopyInResponse":
        if ((head.kind !== "query" && head.kind !== "execute") || head.run.copiesIn === 0) throw unexpected(message);
        this.#machine.copyBegan();
        return this.#pass(message);
      case "CopyOutResponse":
        if (head.kind !== "query" && head.kind !== "execute") throw unexpected(message);
        head.run.startCopyOut(message.format);
        return this.#pass(message);
      case "CopyDone":
        if (head.kind !== "query" && head.kind !== "execute") throw unexpected(message);
        return this.#pass(message);
      case "ReadyForQuery":
        return this.#ready(head, message.status, message);
      default:
        throw unexpected(message);
    }
  }

  #shift(): void {
    this.#machine.expected.shift();
    this.#machine.answered();
  }

  #pass(message: BackendMessage): void {
    encodeBackendMessage(this.#out, message);
  }

  #description(head: Expected, frame: Frame): void {
    switch (head.kind) {
      case "query":
        head.run.describe(frame);
        break;
      case "describeStatement":
        if (!this.#isDescribed(head)) throw unexpected({ type: "RowDescription" });
        decodeRowDescription(frame);
        this.#shift();
        break;
      case "describePortal":
        // Of a cursor the run is that of its DECLARE, which gives no rows: FETCH is judged when it comes.
        if (head.judges) head.run.describe(frame);
        else decodeRowDescription(frame);
        this.#shift();
        if (!head.answers) return;
        break;
      default:
        throw unexpected({ type: "RowDescription" });
    }
    // Decoded, or equal to one that was: encoding it again would give these bytes.
    this.#out.message(backendType.RowDescription, frame.bytes, frame.start, frame.end);
  }

  #complete(head: Expected, targetTag: string, targetMessage: BackendMessage): void {
    if (head.kind !== "query" && head.kind !== "execute") throw unexpected(targetMessage);
    const { limit } = head.run;
    const cut = limit?.cut === true;
    const tag = limit?.endResult(targetTag) ?? targetTag;
    const message: BackendMessage = cut ? { type: "CommandComplete", tag } : targetMessage;
    const notice = limit?.takeNotice();
    if (notice) this.#tell(notice, head.run);
    if (head.run.canonical) this.#canonicalBefore = true;
    const change = head.kind === "query" ? head.changes.get(head.run.statementIndex) : head.change;
    const ended = head.run.complete(tag);
    if (head.kind === "execute") {
      // Before CLOSE ALL ends portals, its own among them.
      head.run.finish();
      head.portal.started = true;
    }
    this.#machine.names.settle(change, true);
    if (ended?.fetch) this.#machine.names.noteFetched(ended.fetch.name);
    // The unnamed one stays, as the target has it: it may be the one that ran this.
    if (ended?.deallocate?.name === null) this.#machine.names.statements.clear((_, name) => name === "");
    if (ended?.close?.name === null) this.#machine.names.portals.clear((_, name) => name === "");
    if (head.kind === "execute") this.#shift();
    this.#pass(message);
  }

  /** The answer to Describe of a statement is two messages. */
  #isDescribed(head: Expected): boolean {
    return head.kind === "describeStatement" && head.parametersSeen;
  }

  #ready(first: Expected, status: "I" | "T" | "E", message: BackendMessage): void {
    const { expected } = this.#machine;
    if (this.#skipping) this.#skipToSync();
    this.#skipping = false;
    const [head = first] = expected;
    this.#machine.ready(status);
    this.#noticeCount = 0;
    if (status === "I") {
      this.#machine.names.portals.clear((portal) => portal.hold);
      this.#canonicalBefore = false;
    }
    if (head.kind === "query") {
      if (!head.run.answered) throw unexpected(message);
      for (const change of head.changes.values()) this.#machine.names.settle(change, false);
      head.run.finish();
      expected.shift();
    } else if (head.kind === "refused" && head.simple && head.answered) {
      expected.shift();
    } else {
      if (expected[0]?.kind !== "sync") throw unexpected(message);
      expected.shift();
    }
    this.#machine.answered();
    this.#pass(message);
    if (head.kind === "query") this.#machine.copyEnded();
  }

  /** What the target skips after an error: everything up to the next Sync. */
  #skipToSync(): void {
    const { expected } = this.#machine;
    for (let entry = expected[0]; entry !== undefined && entry.kind !== "sync"; entry = expected[0]) {
      if ("change" in entry) this.#machine.names.settle(entry.change, false);
      if (entry.kind === "execute") entry.run.finish("skipped");
      if (entry.kind === "settings") this.#machine.settings.noteAnswered(undefined);
      expected.shift();
    }
    if (expected.length === 0) {
      this.#skipping = true;
      this.#machine.skipBatch();
    }
    this.#machine.answered();
  }

  #error(fields: NoticeFields): void {
    const [head] = this.#machine.expected;
    if (head?.kind === "internal" || head?.kind === "settings") this.#machine.outgoing.ownLeft = true;
    if (head?.kind === "internal") {
      head.error = fields;
      if (!head.inBatch) return;
      if (isPassing(fields)) {
        this.#pass({ type: "ErrorResponse", fields });
        this.#skipping = true;
        this.#machine.skipBatch();
      }
      return this.#internalDone(head);
    }
    if (head?.kind === "refused" && fields.C === "42601" && !head.answered) {
      this.#pass({ type: "ErrorResponse", fields: head.fields });
      if (head.simple) head.answered = true;
      else this.#skipToSync();
      return;
    }
    const stopped = (head?.kind === "query" || head?.kind === "execute") && head.run.limit?.stopping === true;
    this.#machine.settings.noteError();
    if (stopped && fields.C === "57014") return this.#stopped(head);
    const run: Run | undefined = head !== undefined && "run" in head ? head.run : undefined;
    const shown = this.#isCanonical(run) ? canonicalFields(fields, namedBy(run)) : fields;
    run?.fail(shown);
    if (head?.kind === "bind" && head.change.registry === "portals") head.change.proposal.value?.run.fail(shown);
    this.#saidGoodbye = shown.V === "FATAL" || shown.V === "PANIC";
    this.#pass({ type: "ErrorResponse", fields: shown });
    // What a commit at the end of a batch refuses is no command's any more.
    if (head?.kind === "sync") this.#record(null, shown);
    // It takes no more data, though its ReadyForQuery is still to come.
    if (head?.kind === "query" && this.#machine.copyIn.taking) this.#machine.copyEnded();
    if (head === undefined || head.kind === "query" || head.kind === "sync") return;
    run?.finish();
    this.#skipToSync();
    if (head.kind === "execute") this.#machine.copyEnded();
  }

  /** The target ended the command because it was asked to: its client has what it may have. */
  #stopped(head: Answered): void {
    const format = head.run.limit?.copyFormat;
    if (format === "binary") this.#out.begin(backendType.CopyData).uint16(0xffff).finish();
    if (format !== undefined) this.#pass({ type: "CopyDone" });
    const tag = format === undefined ? "SELECT 0" : "COPY 0";
    this.#complete(head, tag, { type: "CommandComplete", tag });
  }

  /** A notice of the gateway's own. */
  #tell(fields: NoticeFields, { permit }: Run): void {
    this.#record(permit.command, fields);
    this.#pass({ type: "NoticeResponse", fields });
  }

  #record(command: number | null, fields: NoticeFields): void {
    this.#machine.session.record({ type: "notice", at: Date.now(), command, fields });
  }

  /**
   * Before Bind no value was read but the statement's own; afterwards the decision says. What a transaction put off to
   * its end (constraints, holdable cursors) may show itself in a command that reads nothing, or in none.
   */
  #isCanonical(run: Run | undefined): boolean {
    if (run === undefined) {
      return this.#canonicalBefore || this.#machine.expected.some((entry) => "run" in entry && entry.run.canonical);
    }
    if (run.canonical || !this.#canonicalBefore) return run.canonical;
    return run.permit.analysis.statements.some(({ relations }) => relations.length === 0);
  }

  #notice(fields: NoticeFields): void {
    const [head] = this.#machine.expected;
    if (head?.kind === "internal") return;
    const run: Run | undefined = head !== undefined && "run" in head ? head.run : undefined;
    const shown = this.#isCanonical(run) ? canonicalFields(fields, namedBy(run)) : fields;
    if (this.#noticeCount++ < limits.recordedNoticesPerCommandMax) {
      this.#record(run?.permit.command ?? null, shown);
    }
    this.#pass({ type: "NoticeResponse", fields: shown });
  }

  #internal(head: Extract<Expected, { kind: "internal" }>, message: BackendMessage, frame: Frame): void {
    this.#internalBytes += frame.payloadBytes;
    if (this.#internalBytes > limits.catalogQueryBytesMax) {
      throw new GatewayError("upstream.protocol", "the target's catalog is larger than is read");
    }
    switch (message.type) {
      case "DataRow":
        head.rows.push(decodeDataRow(frame).map((value) => value?.toString("utf8") ?? null));
        return;
      case "ParseComplete":
      case "BindComplete":
      case "CommandComplete":
        return;
      case "CloseComplete":
        if (--head.closing > 0) return;
        this.#machine.outgoing.ownLeft = false;
        if (head.inBatch) this.#internalDone(head);
        return;
      case "ReadyForQuery":
        if (head.inBatch) throw unexpected(message);
        this.#machine.ready(message.status);
        return this.#internalDone(head);
      default:
        throw unexpected(message);
    }
  }

  #internalDone(head: Extract<Expected, { kind: "internal" }>): void {
    this.#internalBytes = 0;
    head.done(head.rows, head.error);
    this.#shift();
  }
}

function namedBy(run: Run | undefined): ReadonlySet<string> {
  const statements = run?.permit.analysis.statements ?? [];
  return new Set(statements.flatMap(({ relations }) => relations.map(({ schema, name }) => `${schema}.${name}`)));
}

function unexpected(message: Pick<BackendMessage, "type">): GatewayError {
  return new GatewayError("upstream.protocol", `the target broke the protocol: unexpected ${message.type}`);
}
