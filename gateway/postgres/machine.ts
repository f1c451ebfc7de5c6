/**
 * The client's half of a session: each message is decoded, judged through the session pipeline and only then
 * re-framed for the target ("Message Flow" in the protocol's documentation). A refused command is replaced by a
 * statement of the gateway's own that the target must fail, so that order, skipping to Sync and the state of a
 * transaction block are the target's own; its error is then spelled as the denial.
 */
import { randomUUID } from "node:crypto";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Obligations } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { HoldNotice } from "../session/approvals.ts";
import type { Permit, Ruling, Session } from "../session/session.ts";
import { type AnalysedCommand, type AnalysedStatement, hasOnlyRows, type SessionAnalyser } from "./analysed.ts";
import { recordedValue } from "./capture.ts";
import { denialFields, isPassing, nativeError } from "./diagnostics.ts";
import { EnforcedSettings, escapesObligations } from "./enforced-settings.ts";
import type { Expected, NameChange, PortalEntry, PreparedEntry } from "./expected.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import type { Bind, Close, Describe, Execute, FrontendMessage, NoticeFields, Parse, Query } from "./messages.ts";
import { NameRegistry } from "./registry.ts";
import { mayStopEarly } from "./row-limit.ts";
import { Run, type RunOptions } from "./run.ts";
import { refusedSetting } from "./text-settings.ts";
import { MessageWriter } from "./writer.ts";

/** Fails in PostgreSQL's grammar, before anything is looked at, in every state of a transaction. */
const refusedStatement = "sallyport: refused by policy";
/** What is refused in another place than a Parse leaves the unnamed statement as it is. */
const refusedName = "sallyport: refused";

const fruitlessMax = 1_000;
/** NAMEDATALEN - 1 */
const nameBytesMax = 63;
const nameTooLong: NoticeFields = {
  ...nativeError("42622", `a name of a prepared statement or portal may have ${nameBytesMax} bytes`),
  H: "Use a shorter name.",
};
const madeAnew: NoticeFields = {
  ...nativeError("0A000", "what this portal executes or fetches by name was made anew since it was bound"),
  H: "Bind it again.",
};
const unaccountableRefused: NoticeFields = {
  ...nativeError("0A000", "EXECUTE or FETCH of what is no query is not supported through this gateway"),
  H: "Send the statement that was prepared itself.",
};
const escapeRefused: NoticeFields = {
  ...nativeError("0A000", "what policy obliges this command to could be lifted by one of its statements"),
  H: "Run SET, RESET, DISCARD, ROLLBACK, DO and functions of users as a query of their own.",
};

const noChanges: ReadonlyMap<number, NameChange> = new Map();

/** A command as it is judged: what its names stand for put in their place. */
interface Resolved extends Pick<AnalysedCommand, "statements" | "plain"> {
  readonly analysis: CommandAnalysis;
  /** Digest of the texts of those names; "" where it has none. */
  readonly standsFor: string;
  /** Each of those texts once. */
  readonly bodies: readonly string[];
  /** What those names meant, by statement: a text made anew under the same name is another. */
  readonly entries: readonly (PreparedEntry | undefined)[];
  /** One of the names stands for more than a query: what that would do to the session nobody would account for. */
  readonly unaccountable: boolean;
}

/** A query of the gateway's own was cancelled, or could not have what others hold: the next may succeed. */
class Interrupted extends GatewayError {
  /** The target's own error. */
  readonly sqlstate: string;
  readonly said: string;

  constructor(failure: string, { C = "", M = "" }: NoticeFields) {
    super("upstream.protocol", `${failure}: ${M}`);
    this.sqlstate = C;
    this.said = M;
  }
}

/** PREPAREd and DECLAREd earlier in the same text: what later statements of it mean by those names. */
interface MadeHere {
  readonly prepared: Map<string, { readonly text: string }>;
  readonly cursors: Map<string, { readonly text: string }>;
}

export interface MachinePorts {
  /** Bytes for the target, once what was recorded may be acted upon. */
  forward(bytes: Buffer): void;
  /** Tells the client of a hold. */
  notice(fields: NoticeFields): void;
  /** Resolves once the target has taken note of it. */
  cancelUpstream(): Promise<void>;
}

export class Machine {
  readonly expected: Expected[] = [];
  readonly statements = new NameRegistry<PreparedEntry>("prepared statement", limits.preparedStatementsMax, {
    bytesMax: limits.preparedTextBytesMax,
    bytesOf: ({ text }) => Buffer.byteLength(text),
  });
  readonly portals = new NameRegistry<PortalEntry>("portal", limits.portalsMax, undefined, endPortal);
  readonly session: Session;
  readonly #analyser: SessionAnalyser;
  readonly #options: RunOptions;
  readonly #ports: MachinePorts;
  readonly #writer = new MessageWriter();
  /** A query of the gateway's own failed, and the target may have kept its statement. */
  internalLeft = false;
  /** Of the gateway's own statements, while they run: no client can have taken it. */
  readonly #internalName = `sallyport ${randomUUID()}`;
  #batch = 0;
  /** Extended messages went out since the last Sync. */
  #batchOpen = false;
  /** One of them was a Bind or an Execute: a Sync of the gateway's own would take it back, or commit it. */
  #batchHolds = false;
  #skipToSync = false;
  /** The target takes data of the command at the head, until the client or an error ends that. */
  #copyingIn = false;
  /** The client's Syncs meanwhile: the target would ignore them, unless it failed before it came to them. */
  #heldSyncs = 0;
  /** What was forwarded with a COPY FROM STDIN. */
  readonly #copyRuns = new Set<Run>();
  #hold: AbortController | undefined;
  /** Until a request to cancel can hit nothing more. */
  #stopping: Promise<void> | undefined;
  /** Executes since the last Sync that were forwarded. */
  #batchExecutes = 0;
  /** One of them may have ended a transaction block. */
  #batchEndsBlock = false;
  /** Names were read in the open batch, and what it did to them may be taken back at its end. */
  #readInBatch = false;
  readonly settings = new EnforcedSettings();
  #settled: (() => void)[] = [];
  /** How often a message looked again since the target's last answer. */
  #fruitless = 0;
  /** From the last ReadyForQuery. */
  transactionStatus: "I" | "T" | "E" = "I";

  constructor(options: RunOptions, ports: MachinePorts) {
    this.session = options.session;
    this.#analyser = options.analyser;
    this.#options = options;
    this.#ports = ports;
  }

  /** The client wants its running command cancelled. Resolves once nothing that it sends from then on can be hit. */
  async cancel(): Promise<void> {
    // What was sent before a held command may still run: as on the target, that is what a cancel is for.
    if (this.#hold && this.expected.length === 0) this.#hold.abort();
    else await this.#cancelRunning();
  }

  #cancelRunning(): Promise<void> {
    this.#stopping ??= this.#ports.cancelUpstream().finally(() => {
      this.#stopping = undefined;
    });
    return this.#stopping;
  }

  /**
   * Ends what the target is at, where that takes nothing back and nothing else can be hit; nothing new is forwarded
   * until that is certain. @returns whether it was asked to end.
   */
  stopEarly(head: Extract<Expected, { kind: "query" | "execute" }>): boolean {
    const { analysis } = head.run.permit;
    if (this.transactionStatus !== "I" || !mayStopEarly(analysis)) return false;
    const [, next, more] = this.expected;
    const alone = next === undefined ? head.kind === "query" : next.kind === "sync" && next.executes === 1;
    if (!alone || more !== undefined) return false;
    void this.#cancelRunning();
    return true;
  }

  /** The target passes over what is left of the open batch, and so does the gateway. */
  skipBatch(): void {
    if (this.#batchOpen) this.#skipToSync = true;
  }

  /** The client left. */
  abandon(): void {
    this.#hold?.abort();
    for (const entry of this.expected) if ("run" in entry) entry.run.finish("lost");
    this.portals.clear();
  }

  /** An answer settled something: whoever waits for the target looks again. */
  answered(): void {
    this.#fruitless = 0;
    if (this.#settled.length === 0) return;
    for (const wake of this.#settled.splice(0)) wake();
  }

  /** @returns a promise when the message has to wait; the next one is handed over after it. */
  handle(message: FrontendMessage): void | Promise<void> {
    if (this.#stopping !== undefined) return this.#stopping.then(() => this.handle(message));
    if (this.#skipToSync && message.type !== "Sync" && message.type !== "Terminate") return;
    if (this.expected.length >= limits.messagesInFlightMax) return this.#room().then(() => this.handle(message));
    if (hasLongName(message)) {
      this.#batchOpen = true;
      return this.#refuseWith(nameTooLong);
    }
    if (this.#copyingIn) return this.#copy(message);
    // Whether the target takes data, or has failed, decides what the message is to it.
    if (this.#copyOwed() && message.type !== "Flush") {
      this.flush();
      return this.#nextAnswer().then(() => this.handle(message));
    }
    switch (message.type) {
      case "Query":
        return this.#query(message);
      case "Parse":
        return this.#parse(message);
      case "Bind":
        return this.#bind(message);
      case "Execute":
        return this.#execute(message);
      case "Describe":
        return this.#describe(message);
      case "Close":
        return this.#close(message);
      case "Sync":
        return this.#sync();
      case "Flush":
        this.#send(message);
        return this.flush();
      case "CopyData":
      case "CopyDone":
      case "CopyFail":
        // Outside a COPY the target drops these; they are dropped here.
        return;
      case "FunctionCall":
        throw new GatewayError("protocol.unsupported", "function calls by message are not supported", {
          hint: "Call the function with SELECT.",
        });
      case "Terminate":
        return;
    }
  }

  #sync(): void {
    this.#skipToSync = false;
    this.#send({ type: "Sync" });
    this.#batch += 1;
    this.expected.push({ kind: "sync", executes: this.#batchExecutes, endsBlock: this.#batchEndsBlock });
    this.#batchExecutes = 0;
    this.#endBatch();
    this.flush();
  }

  // --- simple protocol ---

  #query(message: Query): void | Promise<void> {
    // A simple query ends an open batch: the target answers both together.
    if (this.#analyser.stale || this.#batchOpen)
      return this.#whenSettled(() => (this.#skipToSync ? undefined : this.#judgedQuery(message)), true);
    return this.#judgedQuery(message);
  }

  #judgedQuery(message: Query): void | Promise<void> {
    this.#batch += 1;
    const analysed = this.#analyser.analyse(message.query);
    const resolved = this.#resolve(analysed, message.query);
    if (resolved === "unsettled") return this.#whenSettled(() => this.#judgedQuery(message), true);
    return then(this.#authorise(message.query, resolved, [], "query"), (ruling) => {
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, true);
      const { permit } = ruling;
      if (this.#refuseSetting(permit, resolved, true)) return;
      const forward = () => {
        const run = new Run(permit, resolved, this.#options);
        this.expected.push({ kind: "query", run, changes: this.#takeEffects(run) });
        this.#send(message);
        this.#endBatch();
        // Its names are settled by its own answer: what fails in it makes the target skip nothing that comes behind.
        this.#batch += 1;
        return this.flush();
      };
      const { obligations } = permit.decision;
      if (!this.settings.pending && !this.settings.isDue(obligations)) return forward();
      return this.#oblige(permit, forward);
    });
  }

  /** Sets what policy obliges a simple query to, and forwards it. */
  async #oblige(permit: Permit, forward: () => void): Promise<void> {
    await this.#drained();
    const { obligations } = permit.decision;
    // A failed transaction runs nothing but its end.
    if (!this.settings.isDue(obligations) || this.transactionStatus === "E") return forward();
    try {
      const [row] = await this.internalQuery(
        this.settings.take(obligations),
        "what policy obliges to could not be set",
        // After an error the target would skip the query itself: a batch before it ends here, as it would there.
        false,
      );
      this.settings.noteAnswered(row);
    } catch (fault) {
      this.settings.noteAnswered(undefined);
      this.session.finish(permit, "error", "57014");
      return this.#refuseWith(nativeError("57014", (fault as Error).message), true);
    }
    return forward();
  }

  /** EXECUTE and FETCH are judged as what their names stand for. */
  #resolve(analysed: AnalysedCommand, text: string): Resolved | "unsettled" {
    const { plain } = analysed;
    if (plain || !analysed.statements.some((statement) => statement.execute || statement.fetch)) {
      const { command: analysis, statements } = analysed;
      return { analysis, statements, plain, standsFor: "", bodies: [], entries: [], unaccountable: false };
    }
    const made: MadeHere = { prepared: new Map(), cursors: new Map() };
    const statements: AnalysedStatement[] = [];
    const inputs = [...analysed.command.statements];
    const incomplete = [...analysed.command.incomplete];
    const fingerprints = [analysed.command.fingerprint];
    const entries: (PreparedEntry | undefined)[] = [];
    let unaccountable = false;
    for (const statement of analysed.statements) {
      const { prepared, cursor } = statement;
      if (prepared) made.prepared.set(prepared.name, prepared);
      if (cursor) made.cursors.set(cursor.name, cursor);
      const use = statement.execute ?? statement.fetch;
      if (use === undefined) {
        statements.push(statement);
        continue;
      }
      const body = this.#textOf(statement, made);
      if (body === "unsettled") return "unsettled";
      entries.push(body);
      const found = body && this.#analyser.analyse(body.text);
      if (found === undefined) {
        incomplete.push(`"${use.name}" names no statement or cursor of this session`);
        statements.push(statement);
        continue;
      }
      inputs.push(...found.command.statements);
      incomplete.push(...found.command.incomplete);
      fingerprints.push(found.command.fingerprint);
      const [stands, ...more] = found.statements;
      unaccountable ||= stands === undefined || more.length > 0 || !hasOnlyRows(stands);
      statements.push({
        ...statement,
        outputColumns: stands?.outputColumns ?? null,
        changesCatalog: statement.changesCatalog || stands?.changesCatalog === true,
        changesSession: statement.changesSession || stands?.changesSession === true,
      });
    }
    // A short text may name a long one a thousand times.
    const bodies = [...new Set(entries.flatMap((entry) => (entry === undefined ? [] : [entry.text])))];
    const order = entries.map((entry) => (entry === undefined ? -1 : bodies.indexOf(entry.text)));
    const standsFor = combine([order.join(), ...bodies.map((body) => combine([body]))]);
    const rest = { statements, plain, standsFor, bodies, entries, unaccountable };
    const key = combine([text, standsFor]);
    const combined = this.#combined.get(key);
    if (combined?.context === this.#analyser.context) return { analysis: combined.analysis, ...rest };
    const analysis: CommandAnalysis = Object.freeze({
      kind: "sql",
      fingerprint: fingerprints.length === 1 ? analysed.command.fingerprint : combine(fingerprints),
      complete: incomplete.length === 0,
      incomplete,
      statements: inputs,
    });
    if (this.#combined.size >= 1_000) this.#combined.clear();
    this.#combined.set(key, { context: this.#analyser.context, analysis });
    return { analysis, ...rest };
  }

  /** The statement that EXECUTE or FETCH stands for. */
  #textOf({ execute, fetch }: AnalysedStatement, made: MadeHere): PreparedEntry | undefined | "unsettled" {
    if (execute) {
      const prepared = made.prepared.get(execute.name);
      if (prepared) return { text: prepared.text };
      const lookup = this.statements.lookup(execute.name, this.#batch);
      return lookup.kind === "found" ? lookup.value : lookup.kind === "absent" ? undefined : "unsettled";
    }
    const name = fetch?.name ?? "";
    const cursor = made.cursors.get(name);
    if (cursor) return { text: cursor.text };
    const lookup = this.portals.lookup(name, this.#batch);
    // What FETCH gives is what the cursor's query gives.
    return lookup.kind === "found" ? lookup.value.statement : lookup.kind === "absent" ? undefined : "unsettled";
  }

  #analysisOf(entry: PreparedEntry): AnalysedCommand {
    const { context } = this.#analyser;
    if (entry.analysed?.context === context) return entry.analysed.command;
    const command = this.#analyser.analyse(entry.text);
    entry.analysed = { context, command };
    return command;
  }

  readonly #combined = new Map<string, { context: object; analysis: CommandAnalysis }>();

  /** A command is about to be forwarded: what it does to the session. @returns its changes of names, by statement */
  #takeEffects(run: Run): ReadonlyMap<number, NameChange> {
    this.settings.noteForwarded(run.permit.analysis);
    if (run.plain) return noChanges;
    if (run.copiesIn > 0) this.#copyRuns.add(run);
    if (this.#batchOpen && endsBlock(run)) this.#batchEndsBlock = true;
    this.#takeContext(run.statements);
    const changes = this.#nameChanges(run.statements, run);
    for (const statement of run.statements) this.#analyser.noteForwarded(statement);
    return changes;
  }

  /** What names will mean once each statement of a simple query has succeeded. */
  #nameChanges(statements: readonly AnalysedStatement[], run: Run): ReadonlyMap<number, NameChange> {
    if (!statements.some(({ prepared, cursor, deallocate, close }) => prepared ?? cursor ?? deallocate ?? close)) {
      return noChanges;
    }
    const changes = new Map<number, NameChange>();
    statements.forEach((statement, index) => {
      if (statement.prepared) {
        const { name, text } = statement.prepared;
        changes.set(index, {
          registry: "statements",
          name,
          proposal: this.statements.propose(name, this.#batch, { text }),
        });
      } else if (statement.cursor) {
        const { name, hold } = statement.cursor;
        const entry: PortalEntry = {
          run,
          statement: { text: statement.cursor.text },
          params: [],
          entries: [],
          // Of no judgement: an Execute of it is judged, and its columns asked for, as a FETCH is.
          context: {},
          started: false,
          declared: true,
          hold,
        };
        changes.set(index, { registry: "portals", name, proposal: this.portals.propose(name, this.#batch, entry) });
      } else if (statement.deallocate && statement.deallocate.name !== null) {
        changes.set(index, this.#closing("statements", statement.deallocate.name));
      } else if (statement.close && statement.close.name !== null) {
        changes.set(index, this.#closing("portals", statement.close.name));
      }
    });
    return changes;
  }

  /** What a name will mean once a message or statement that closes it has succeeded: nothing. */
  #closing(registry: NameChange["registry"], name: string): NameChange {
    return registry === "statements"
      ? { registry, name, proposal: this.statements.propose(name, this.#batch, undefined) }
      : { registry, name, proposal: this.portals.propose(name, this.#batch, undefined) };
  }

  // --- extended protocol ---

  #parse(message: Parse): void | Promise<void> {
    if (this.#stale()) return this.#whenSettled(() => this.handle(message));
    return this.#judgedParse(message);
  }

  #judgedParse(message: Parse): void | Promise<void> {
    this.#batchOpen = true;
    const analysed = this.#analyser.analyse(message.query);
    const forward = () => {
      const proposal = this.statements.propose(message.statement, this.#batch, { text: message.query });
      this.expected.push({ kind: "parse", change: { registry: "statements", name: message.statement, proposal } });
      this.#send(message);
    };
    // What is prepared runs nothing yet: its execution is authorised at Bind, with its parameters. A text that policy
    // denies whatever its parameters is refused, and recorded, here.
    const resolved = this.#resolve(analysed, message.query);
    if (resolved === "unsettled") return this.#whenSettled(() => this.handle(message));
    if (this.session.preview(resolved.analysis, message.query).verdict !== "deny") return forward();
    return then(this.#authorise(message.query, resolved, [], "parse"), (ruling) =>
      ruling.kind === "denied" ? this.#refuse(ruling, analysed, false, message.statement) : forward(),
    );
  }

  #bind(message: Bind): void | Promise<void> {
    const lookup = this.statements.lookup(message.statement, this.#batch);
    if (lookup.kind === "unsettled" || this.#stale()) return this.#whenSettled(() => this.handle(message));
    this.#batchOpen = true;
    if (lookup.kind === "absent") {
      const name = message.statement;
      return this.#refuseWith(
        nativeError(
          "26000",
          name === "" ? "unnamed prepared statement does not exist" : `prepared statement "${name}" does not exist`,
        ),
      );
    }
    const entry = lookup.value;
    const params = message.parameters.map((value, index) => {
      const { parameterFormats: formats } = message;
      const format = formats.length === 0 ? 0 : formats.length === 1 ? formats[0] : formats[index];
      return value === null ? null : recordedValue(value, format ?? 0);
    });
    const analysed = this.#analysisOf(entry);
    const resolved = this.#resolve(analysed, entry.text);
    if (resolved === "unsettled") return this.#whenSettled(() => this.handle(message));
    const authorised = this.#authorise(entry.text, resolved, params, "bind");
    // The views of the received bytes are valid now only: what outlives a wait is a copy.
    const bind = authorised instanceof Promise ? detached(message) : message;
    return then(authorised, (ruling) => {
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, false);
      if (this.#refuseSetting(ruling.permit, resolved, false)) return;
      const run = new Run(ruling.permit, resolved, this.#options);
      const { entries } = resolved;
      const { context } = this.#analyser;
      const portal: PortalEntry = {
        run,
        statement: entry,
        params,
        entries,
        context,
        started: false,
        declared: false,
        hold: false,
      };
      const proposal = this.portals.propose(message.portal, this.#batch, portal);
      this.#batchHolds = true;
      this.expected.push({ kind: "bind", change: { registry: "portals", name: message.portal, proposal } });
      this.#send(bind);
      this.#askColumns(message.portal, run);
    });
  }

  #execute(message: Execute): void | Promise<void> {
    const lookup = this.portals.lookup(message.portal, this.#batch);
    if (lookup.kind === "unsettled" || this.#stale() || this.settings.pending)
      return this.#whenSettled(() => this.handle(message));
    this.#batchOpen = true;
    if (lookup.kind === "absent")
      return this.#refuseWith(nativeError("34000", `portal "${message.portal}" does not exist`));
    const portal = lookup.value;
    const { run } = portal;
    const forward = () => {
      this.#obligeInBatch(portal.run.permit.decision.obligations);
      this.expected.push({ kind: "execute", run: portal.run, portal, change: this.#takeEffects(portal.run).get(0) });
      this.#batchExecutes += 1;
      this.#batchHolds = true;
      this.#send(message);
    };
    // What began goes on as it was judged and described: of EXECUTE and FETCH the target would describe what the name
    // means by now, and send the rows of before.
    if (portal.started) return forward();
    const isTimely = Date.now() - run.permit.judgedAtMs <= limits.portalJudgementMsMax;
    const isAsJudged =
      isTimely && this.session.policy === run.permit.policy && portal.context === this.#analyser.context;
    if (isAsJudged && portal.entries.length === 0) return forward();
    const analysed = this.#analysisOf(portal.statement);
    const resolved = this.#resolve(analysed, portal.statement.text);
    if (resolved === "unsettled") return this.#whenSettled(() => this.handle(message));
    if (resolved.entries.some((entry, index) => entry !== portal.entries[index])) return this.#refuseWith(madeAnew);
    if (isAsJudged) {
      this.#askColumns(message.portal, portal.run);
      return forward();
    }
    // Time went by, or the policy, the catalog or the search path changed since Bind: it is judged again.
    return then(this.#authorise(portal.statement.text, resolved, portal.params, "execute"), (ruling) => {
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, false);
      if (this.#refuseSetting(ruling.permit, resolved, false)) return;
      if (!portal.declared) run.finish("skipped");
      portal.run = new Run(ruling.permit, resolved, this.#options);
      portal.declared = false;
      portal.context = this.#analyser.context;
      this.#askColumns(message.portal, portal.run);
      return forward();
    });
  }

  /** In the client's own batch: should it fail, the target skips what it is for. */
  #obligeInBatch(obligations: Obligations | undefined): void {
    if (this.#hasFailed() || !this.settings.isDue(obligations)) return;
    const closing = this.#sendInternal(this.settings.take(obligations));
    this.expected.push({ kind: "settings", row: undefined, closing });
  }

  /** Rows are masked by what the portal itself will send, asked of the target and not of the client. */
  #askColumns(portal: string, run: Run): void {
    this.#send({ type: "Describe", kind: "portal", name: portal });
    this.expected.push({ kind: "describePortal", run, judges: true, answers: false });
  }

  #describe(message: Describe): void | Promise<void> {
    this.#batchOpen = true;
    if (message.kind === "statement") {
      this.expected.push({ kind: "describeStatement", parametersSeen: false });
    } else {
      const lookup = this.portals.lookup(message.name, this.#batch);
      if (lookup.kind === "unsettled") return this.#whenSettled(() => this.handle(message));
      if (lookup.kind === "absent")
        return this.#refuseWith(nativeError("34000", `portal "${message.name}" does not exist`));
      const { run } = lookup.value;
      const last = this.expected.at(-1);
      // The gateway's own question right before it is the same one: its answer goes to the client as well.
      if (last?.kind === "describePortal" && last.run === run && !last.answers) {
        last.answers = true;
        return;
      }
      this.expected.push({ kind: "describePortal", run, judges: false, answers: true });
    }
    this.#send(message);
  }

  #close(message: Close): void | Promise<void> {
    this.#batchOpen = true;
    const change = this.#closing(message.kind === "statement" ? "statements" : "portals", message.name);
    this.expected.push({ kind: "close", change });
    this.#send(message);
  }

  // --- COPY ---

  #copyOwed(): boolean {
    if (this.#copyRuns.size === 0) return false;
    const owed = new Set(this.expected.flatMap((entry) => ("run" in entry ? [entry.run] : [])));
    for (const run of this.#copyRuns) if (run.copiesIn === 0 || !owed.has(run)) this.#copyRuns.delete(run);
    return this.#copyRuns.size > 0;
  }

  /** The target takes data from here on. */
  copyBegan(): void {
    this.#copyingIn = true;
    this.answered();
  }

  /** The command that took data is over; where the client had not ended the data, its Syncs count after all. */
  copyEnded(): void {
    this.#copyingIn = false;
    const held = this.#heldSyncs;
    this.#heldSyncs = 0;
    for (let sync = 0; sync < held; sync++) this.#sync();
  }

  /** @throws GatewayError protocol.malformed for what is not of a COPY, as the target would end the session too */
  #copy(message: FrontendMessage): void {
    const [head] = this.expected;
    switch (message.type) {
      case "CopyData":
        if (head !== undefined && "run" in head) head.run.copy("in", message.data);
        this.#send(message);
        if (this.#writer.length > limits.upstreamBufferBytesMax) this.flush();
        return;
      case "CopyDone":
      case "CopyFail":
        if (head !== undefined && "run" in head) head.run.copiesIn -= 1;
        this.#copyingIn = false;
        this.#heldSyncs = 0;
        this.#send(message);
        return this.flush();
      case "Sync":
        this.#heldSyncs += 1;
        return this.flush();
      case "Flush":
        return this.flush();
      case "Terminate":
        return;
      default:
        throw new GatewayError("protocol.malformed", `unexpected ${message.type} during COPY from stdin`, {
          hint: "End the data with CopyDone or CopyFail first.",
        });
    }
  }

  // --- shared ---

  #authorise(
    text: string,
    resolved: Resolved,
    params: readonly (string | null)[],
    via: string,
  ): Ruling | Promise<Ruling> {
    let controller: AbortController | undefined;
    const ruling = this.session.authorise(
      {
        ...{ text, analysis: resolved.analysis, labels: this.#analyser.labels, params, via },
        ...(resolved.bodies.length > 0 && { standsFor: resolved.bodies }),
      },
      {
        notify: (notice) => this.#ports.notice(holdFields(notice)),
        // Few commands are held: who is not needs none.
        get signal() {
          controller ??= new AbortController();
          return controller.signal;
        },
        stillMeans: () => this.#stillMeans(text, resolved),
      },
    );
    if (!(ruling instanceof Promise)) return ruling;
    controller ??= new AbortController();
    this.#hold = controller;
    // What was judged before goes out now, and is answered: the wait may be long.
    if (this.#batchOpen && this.expected.length > 0) this.#send({ type: "Flush" });
    this.flush();
    return ruling.finally(() => {
      this.#hold = undefined;
    });
  }

  /** While a command is held anybody may change names: they are read again before it is forwarded. */
  async #stillMeans(text: string, judged: Resolved): Promise<"same" | "other" | "cancelled"> {
    // From here on a cancel is for what the target is asked.
    this.#hold = undefined;
    this.#analyser.invalidate();
    try {
      await this.#settle();
    } catch (fault) {
      if (fault instanceof Interrupted) return fault.sqlstate === "57014" ? "cancelled" : "other";
      throw fault;
    }
    const now = this.#resolve(this.#analyser.analyse(text), text);
    return now !== "unsettled" && meaningOf(now) === meaningOf(judged) ? "same" : "other";
  }

  #refuse(
    ruling: Extract<Ruling, { kind: "denied" }>,
    analysed: AnalysedCommand,
    simple: boolean,
    statement?: string,
  ): void {
    const { error } = analysed;
    // What PostgreSQL itself would refuse to parse gets its own error.
    const fields = error ? nativeError("42601", error.message, error.position) : denialFields(ruling.denial, analysed);
    this.#refuseWith(fields, simple, statement);
  }

  /** Whatever policy says: the session could not go on after such a setting. */
  #refuseSetting(permit: Permit, { plain, statements, unaccountable }: Resolved, simple: boolean): boolean {
    const { obligations } = permit.decision;
    const fields =
      (unaccountable ? unaccountableRefused : undefined) ??
      (plain ? undefined : refusedSetting(statements)) ??
      (escapesObligations(permit.analysis, statements.length, obligations) ? escapeRefused : undefined);
    if (fields === undefined) return false;
    this.session.finish(permit, "error", fields.C);
    this.#refuseWith(fields, simple);
    return true;
  }

  /** @param statement of a Parse that is refused: one without a name, even if it fails, ends what had none before it. */
  #refuseWith(fields: NoticeFields, simple = false, statement = refusedName): void {
    this.expected.push({ kind: "refused", fields, simple, answered: false });
    if (simple) {
      this.#send({ type: "Query", query: refusedStatement });
      this.#endBatch();
    } else {
      this.#send({ type: "Parse", statement, query: refusedStatement, parameterTypeOids: [] });
      this.#skipToSync = true;
    }
    this.flush();
  }

  /** SET sallyport.reason = … and its like, as the statement is forwarded. */
  #takeContext(statements: readonly AnalysedStatement[]): void {
    for (const { setting } of statements) {
      if (setting === undefined) continue;
      const name = /^sallyport\.(reason|prompt|ticket)$/.exec(setting.name)?.[1];
      if (name !== undefined) {
        this.session.setContext({ ...this.session.context, [name]: (setting.value ?? "").slice(0, 4_096) });
      }
    }
  }

  #stale(): boolean {
    return this.#analyser.stale && !this.#hasFailed();
  }

  /** In a failed transaction block, which nothing that was forwarded can end: no name can be read, and none matters. */
  #hasFailed(): boolean {
    if (this.transactionStatus !== "E" || this.#batchEndsBlock) return false;
    return !this.expected.some((entry) => {
      if (entry.kind === "sync") return entry.endsBlock;
      return (entry.kind === "query" || entry.kind === "execute") && endsBlock(entry.run);
    });
  }

  #endBatch(): void {
    this.#batchOpen = false;
    this.#batchHolds = false;
    this.#batchEndsBlock = false;
    if (this.#readInBatch) this.#analyser.invalidate();
    this.#readInBatch = false;
  }

  /** Sends what is encoded, and waits until the target owes no more than this. */
  async #drained(owedMax = 0): Promise<void> {
    if (this.#batchOpen && this.expected.length > owedMax) this.#send({ type: "Flush" });
    this.flush();
    while (this.expected.length > owedMax) await this.#nextAnswer();
  }

  #nextAnswer(): Promise<void> {
    return new Promise((resolve) => this.#settled.push(resolve));
  }

  /** Reads no more of the client until the target has answered most of what it owes. */
  #room(): Promise<void> {
    return this.#drained(limits.messagesInFlightMax >> 1);
  }

  /** What waits for names is refused where their reading is cancelled, or meets a lock. */
  async #whenSettled(next: () => void | Promise<void>, simple = false): Promise<void> {
    this.#fruitless += 1;
    if (this.#fruitless > fruitlessMax) throw new GatewayError("internal", "a name of this session stays unsettled");
    try {
      await this.#settle();
    } catch (fault) {
      if (!(fault instanceof Interrupted)) throw fault;
      // In a batch the target has said so itself, and skips what follows.
      if (!this.#skipToSync) this.#refuseWith(nativeError(fault.sqlstate, fault.said), simple);
      return;
    }
    return next();
  }

  /** Waits until the target owes nothing, then brings names up to date where they may have changed. */
  async #settle(): Promise<void> {
    await this.#drained();
    // Another policy may come in force meanwhile. What the target skips needs no names, and would get no answer.
    while (!this.#skipToSync && (this.#stale() || this.#analyser.labelsOutdated)) {
      if (!this.#stale()) {
        await this.#analyser.relabel();
        continue;
      }
      // The target is asked in the client's own batch: what it has done to names so far counts.
      if (this.#batchOpen && this.#analyser.changed) this.#readInBatch = true;
      const isUncommitted = this.#batchOpen || this.transactionStatus !== "I";
      await this.#analyser.refresh((sql) => this.internalQuery(sql), isUncommitted);
    }
  }

  /** A query of the gateway's own on the session's connection; only while the target owes nothing. */
  internalQuery(
    sql: string,
    failure = "the target's catalog could not be read",
    // An Execute before its own changes what the client's may do: LOCK and VACUUM ask whether they are the first.
    inBatch = this.#batchHolds,
  ): Promise<(string | null)[][]> {
    return new Promise((resolve, reject) => {
      this.expected.push({
        kind: "internal",
        rows: [],
        error: undefined,
        inBatch,
        closing: this.#sendInternal(sql),
        done: (rows, error) => {
          if (error === undefined) resolve(rows);
          else if (isPassing(error)) reject(new Interrupted(failure, error));
          else reject(new GatewayError("upstream.protocol", `${failure}: ${error.M}`));
        },
      });
      this.#send({ type: inBatch ? "Flush" : "Sync" });
      this.flush();
    });
  }

  /**
   * Named, and closed again: a simple query would end the client's unnamed statement and portal.
   *
   * @returns how many times the target will say that something is closed.
   */
  #sendInternal(sql: string): number {
    const name = this.#internalName;
    // What an error left is closed first.
    if (this.internalLeft) this.#send({ type: "Close", kind: "statement", name });
    this.#send({ type: "Parse", statement: name, query: sql, parameterTypeOids: [] });
    const nothing = { parameterFormats: [], parameters: [], resultFormats: [] };
    this.#send({ type: "Bind", portal: name, statement: name, ...nothing });
    this.#send({ type: "Execute", portal: name, rowsMax: 0 });
    this.#send({ type: "Close", kind: "portal", name });
    this.#send({ type: "Close", kind: "statement", name });
    return this.internalLeft ? 3 : 2;
  }

  #send(message: FrontendMessage): void {
    encodeFrontendMessage(this.#writer, message);
  }

  /** Hands over what was encoded; the port waits for the record where durability says so. */
  flush(): void {
    if (this.#writer.length === 0) return;
    if (this.#stopping !== undefined) void this.#stopping.then(() => this.flush());
    else this.#ports.forward(this.#writer.take());
  }
}

/** BEGIN, COMMIT, ROLLBACK TO and their like are among its statements. */
function endsBlock({ plain, statements }: Run): boolean {
  return !plain && statements.some(({ transaction }) => transaction !== undefined);
}

/** A portal that is closed, or ended by its transaction, was read as far as its caller wanted; or not at all. */
function endPortal({ run, started, declared }: PortalEntry): void {
  if (!declared) run.finish(started ? undefined : "skipped");
}

/** PostgreSQL tells prepared statements and portals apart by so many bytes: two that begin alike would be one there, and two here. */
function hasLongName(message: FrontendMessage): boolean {
  switch (message.type) {
    case "Parse":
      return isTooLong(message.statement);
    case "Bind":
      return isTooLong(message.portal) || isTooLong(message.statement);
    case "Execute":
      return isTooLong(message.portal);
    case "Describe":
    case "Close":
      return isTooLong(message.name);
    default:
      return false;
  }
}

const isTooLong = (name: string) => name.length > nameBytesMax / 3 && Buffer.byteLength(name) > nameBytesMax;

function then<T>(value: T | Promise<T>, next: (value: T) => void | Promise<void>): void | Promise<void> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function detached(message: Bind): Bind {
  return { ...message, parameters: message.parameters.map((value) => value && Buffer.from(value)) };
}

/** What policy saw of a command, and where its columns come from. */
function meaningOf({ analysis, statements, standsFor }: Resolved): string {
  return JSON.stringify([analysis, statements.map(({ outputColumns }) => outputColumns), standsFor]);
}

function combine(fingerprints: readonly string[]): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(fingerprints.join("\n")).digest("hex")}`;
}

function holdFields(notice: HoldNotice): NoticeFields {
  const until = new Date(notice.expiresAtMs).toISOString().replace(/\.\d+Z$/, "Z");
  const people = notice.count === 1 ? "a member" : `${notice.count} members`;
  return {
    S: "NOTICE",
    V: "NOTICE",
    C: "00000",
    M: `held for approval ${notice.id}: ${people} of ${notice.from.join(", ")} may approve until ${until}`,
    H: `Approver: sallyport approve ${notice.id}. Cancel (Ctrl-C) to withdraw it.`,
  };
}
