/**
 * The client's half of a session: each message is decoded, judged through the session pipeline and only then
 * re-framed for the target ("Message Flow" in the protocol's documentation). A refused command is replaced by a
 * statement of the gateway's own that the target must fail, so that order, skipping to Sync and the state of a
 * transaction block are the target's own; its error is then spelled as the denial.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Obligations } from "../policy/decision.ts";
import type { HoldNotice } from "../session/approvals.ts";
import type { Permit, Ruling, Session } from "../session/session.ts";
import type { AnalysedCommand, AnalysedStatement, SessionAnalyser } from "./analysed.ts";
import { Batch } from "./batch.ts";
import { recordedValue } from "./capture.ts";
import { CommandHold } from "./command-hold.ts";
import { CopyIn } from "./copy-in.ts";
import { denialFields, nativeError } from "./diagnostics.ts";
import { EnforcedSettings } from "./enforced-settings.ts";
import type { Expected, NameChange, PortalEntry } from "./expected.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import {
  type Bind,
  type Close,
  type Describe,
  type Execute,
  type FrontendMessage,
  frontendType,
  type NoticeFields,
  type Parse,
  type Query,
  type Unreadable,
} from "./messages.ts";
import { Outgoing, type UpstreamPorts } from "./outgoing.ts";
import { Interrupted, ownQuery, type Rows } from "./own-query.ts";
import {
  absentPortal,
  absentStatement,
  cancelled,
  functionCall,
  holdFields,
  madeAnew,
  notInEncoding,
  refusalOf,
  refusedName,
} from "./refusals.ts";
import { mayStopEarly } from "./row-limit.ts";
import { Run, type RunOptions } from "./run.ts";
import { meaningOf, parametersLength, type Resolved, SessionNames } from "./session-names.ts";
import { MessageWriter } from "./writer.ts";

/** Fails in PostgreSQL's grammar, before anything is looked at, in every state of a transaction. */
const refusedStatement = "sallyport: refused by policy";
/** What is refused in another place than a Parse leaves the unnamed statement as it is. */
const refusedElsewhere = "sallyport: refused";

const fruitlessMax = 1_000;

type Authorised = Ruling | { readonly kind: "skipped" } | { readonly kind: "cancelled" };

export interface MachinePorts extends Omit<UpstreamPorts, "forward"> {
  /** Bytes for the target, once what was recorded may be acted upon. @param first of what the target will owe for them */
  forward(bytes: Buffer, first: Expected | undefined): void;
  /** Tells the client of a hold. */
  notice(fields: NoticeFields): void;
}

export class Machine {
  readonly expected: Expected[] = [];
  readonly names: SessionNames;
  readonly outgoing: Outgoing;
  readonly copyIn = new CopyIn();
  readonly session: Session;
  readonly #analyser: SessionAnalyser;
  readonly #options: RunOptions;
  readonly #ports: MachinePorts;
  readonly #batch = new Batch();
  readonly #notify = (notice: HoldNotice) => this.#ports.notice(holdFields(notice));
  #hold: CommandHold | undefined;
  /** A simple query that waits for what policy obliges it to. */
  #obliged: Run | undefined;
  readonly settings = new EnforcedSettings();
  #settled: (() => void)[] = [];
  #abandoned = false;
  /** A message of the client's waits for something before it is forwarded. */
  #preparing = false;
  /** Its client cancelled it meanwhile. */
  #withdrawn = false;
  /** The last that the target will owe for what was handed over. */
  #handedOver: Expected | undefined;
  /** How often a message looked again since the target's last answer. */
  #fruitless = 0;
  /** Batches and queries that were sent, the gateway's own among them, and those that the target has ended. */
  #endings = 0;
  #ended = 0;
  /** From the last ReadyForQuery. */
  transactionStatus: "I" | "T" | "E" = "I";

  constructor(options: RunOptions, ports: MachinePorts) {
    this.session = options.session;
    this.#analyser = options.analyser;
    this.#options = options;
    this.#ports = ports;
    this.names = new SessionNames(options.analyser);
    this.outgoing = new Outgoing({
      forward: (bytes) => this.#handOver(bytes),
      cancelUpstream: () => ports.cancelUpstream(),
    });
  }

  #handOver(bytes: Buffer): void {
    // Where that one is no longer owed, all of these are new.
    const first = this.expected[this.expected.lastIndexOf(this.#handedOver as Expected) + 1];
    this.#handedOver = this.expected.at(-1);
    this.#ports.forward(bytes, first);
  }

  /** The client wants cancelled what runs at the target. Resolves once nothing that it sends from then on can be hit. */
  cancel(): Promise<void> {
    return this.outgoing.cancelRunning();
  }

  /**
   * The client wants its command cancelled. What was sent before may still run: as on the target, that is what a cancel
   * is for. Else it is for the command that waits here to be forwarded, held or not, which is then refused.
   *
   * @returns whether one does.
   */
  withdraw(): boolean {
    if (!this.#preparing || this.expected.some(isRunning)) return false;
    this.#withdrawn = true;
    this.#hold?.abort();
    return true;
  }

  /**
   * The client wants its command cancelled, and these bytes are still here: nothing of them reaches the target if what
   * they ask for is what it would do next.
   *
   * @param first of what the target would owe for them
   * @returns what is sent in their place, if so: with it the target fails that command or batch.
   */
  refuseUnsent(bytes: Buffer, first: Expected | undefined): Buffer | undefined {
    const [head] = this.expected;
    if (head === undefined || head !== first || !isRefusable(head)) return undefined;
    const simple = head.kind === "query";
    // What is taken out is the query's own message, and nothing else.
    if (simple && bytes[0] !== frontendType.Query) return undefined;
    const refused: Expected = { kind: "refused", fields: cancelled, simple, answered: false };
    const writer = new MessageWriter();
    if (head.kind === "query") {
      head.run.refuse("57014");
      for (const change of head.changes.values()) this.names.settle(change, false);
      this.expected[0] = refused;
      encodeFrontendMessage(writer, { type: "Query", query: refusedStatement });
      return Buffer.concat([writer.take(), bytes.subarray(1 + bytes.readInt32BE(1))]);
    }
    const batch = this.expected.slice(0, this.expected.findIndex(({ kind }) => kind === "sync") >>> 0);
    // What is behind it in the batch is skipped, as on the target.
    const cancelledOne = batch.find((entry) => "run" in entry);
    cancelledOne?.run.refuse("57014");
    this.expected.unshift(refused);
    encodeFrontendMessage(writer, refusedParse(refusedElsewhere));
    return Buffer.concat([writer.take(), bytes]);
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
    void this.outgoing.cancelRunning();
    return true;
  }

  /** The target passes over what is left of the open batch, and so does the gateway. */
  skipBatch(): void {
    if (this.#batch.open) this.#batch.failed = true;
  }

  /** The client left. */
  abandon(): void {
    this.#abandoned = true;
    this.#hold?.abort();
    this.#obliged?.finish("lost");
    for (const entry of this.expected) {
      if ("run" in entry) entry.run.finish("lost");
      // Whoever waits for names goes no further.
      if (entry.kind === "internal") entry.done([], nativeError("57P01", "the session ended"));
    }
    this.names.portals.clear();
    // As far as anybody will know.
    this.#analyser.noteSettled(Number.POSITIVE_INFINITY);
  }

  /** The target ended a batch or query. */
  ready(status: "I" | "T" | "E"): void {
    this.transactionStatus = status;
    this.#ended += 1;
    if (status === "I") this.#analyser.noteSettled(this.#ended);
  }

  /** An answer settled something: whoever waits for the target looks again. */
  answered(): void {
    this.#fruitless = 0;
    if (this.#settled.length === 0) return;
    for (const wake of this.#settled.splice(0)) wake();
  }

  /** @returns a promise when the message has to wait; the next one is handed over after it. */
  handle(message: FrontendMessage | Unreadable): void | Promise<void> {
    const waiting = this.#handle(message);
    if (waiting === undefined) return;
    this.#preparing = true;
    return waiting.finally(() => {
      this.#preparing = false;
      this.#withdrawn = false;
    });
  }

  #handle(message: FrontendMessage | Unreadable): void | Promise<void> {
    const { stopping } = this.outgoing;
    if (stopping !== undefined) return stopping.then(() => this.#handle(message));
    if (this.#batch.failed && message.type !== "Sync" && message.type !== "Terminate") return;
    if (this.#withdrawn && message.type === "Query") return this.#refuseQuery(cancelled);
    if (this.#withdrawn && isInBatch(message)) {
      this.#batch.open = true;
      return this.#refuseWith(cancelled);
    }
    if (this.expected.length >= limits.messagesInFlightMax) return this.#room().then(() => this.#handle(message));
    const refused = refusedName(message);
    if (refused) {
      this.#batch.open = true;
      return this.#refuseWith(refused);
    }
    if (this.copyIn.taking) return this.copyIn.handle(message, this.expected[0], this.outgoing);
    // Whether the target takes data, or has failed, decides what the message is to it.
    if (message.type !== "Flush" && this.copyIn.isOwed(this.expected)) {
      this.flush();
      return this.#nextAnswer().then(() => this.#handle(message));
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
        return this.#refuseQuery(functionCall);
      case "Unreadable":
        if (message.message === "Query") return this.#refuseQuery(notInEncoding);
        this.#batch.open = true;
        return this.#refuseWith(notInEncoding);
      case "Terminate":
        return;
    }
  }

  /** What is answered with a ReadyForQuery of its own; the target passes over it where the open batch has failed. */
  #refuseQuery(fields: NoticeFields): void | Promise<void> {
    if (!this.#batch.open) return this.#refuseWith(fields, true);
    return this.#drained().then(() => (this.#batch.failed ? undefined : this.#refuseWith(fields, true)));
  }

  #sync(): void {
    this.#endBySync();
    this.flush();
  }

  #endBySync(): void {
    const { executes, endsBlock } = this.#batch;
    this.#batch.failed = false;
    this.#send({ type: "Sync" });
    this.expected.push({ kind: "sync", executes, endsBlock });
    this.#endBatch();
  }

  // --- simple protocol ---

  #query(message: Query): void | Promise<void> {
    // A simple query ends an open batch: the target answers both together.
    if (this.#needsNames(message.query, true) || this.#batch.open)
      return this.#whenSettled(() => (this.#batch.failed ? undefined : this.#judgedQuery(message)), true);
    return this.#judgedQuery(message);
  }

  #judgedQuery(message: Query): void | Promise<void> {
    const analysed = this.#analyser.analyse(message.query);
    const resolved = this.#resolve(analysed, message.query);
    if (resolved === "unsettled") return this.#whenSettled(() => this.#judgedQuery(message), true);
    return then(this.#authorise(message.query, resolved, resolved.params, "query"), (ruling) => {
      if (ruling.kind === "skipped") return;
      if (ruling.kind === "cancelled") return this.#refuseWith(cancelled, true);
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, true);
      const { permit } = ruling;
      if (this.#refuseNatively(permit, resolved, true)) return;
      const run = new Run(permit, resolved, this.#options);
      const forward = () => {
        if (this.#withdrawn) {
          run.refuse("57014");
          return this.#refuseWith(cancelled, true);
        }
        this.expected.push({ kind: "query", run, changes: sent(run, () => this.#takeEffects(run)) });
        this.#send(message);
        // Its names are settled by its own answer: what fails in it makes the target skip nothing that comes behind.
        this.#endBatch();
        return this.flush();
      };
      const { obligations } = permit.decision;
      if (!this.settings.pending && !this.settings.isDue(obligations)) return forward();
      return this.#oblige(run, forward);
    });
  }

  /** Sets what policy obliges a simple query to, and forwards it. */
  async #oblige(run: Run, forward: () => void): Promise<void> {
    this.#obliged = run;
    try {
      await this.#drained();
      await this.#setFor(run, forward);
    } finally {
      this.#obliged = undefined;
    }
  }

  async #setFor(run: Run, forward: () => void): Promise<void> {
    const { obligations } = run.permit.decision;
    // A failed transaction runs nothing but its end.
    if (!this.settings.isDue(obligations) || this.transactionStatus === "E") return forward();
    if (this.#batch.holds) {
      // A Sync of the gateway's own would commit what a failing query takes back.
      run.refuse("0A000");
      return this.#refuseWith(nativeError("0A000", "policy sets limits for this query: send Sync before it"), true);
    }
    try {
      const [row] = await this.#internalQuery(
        this.settings.take(obligations),
        "what policy obliges to could not be set",
        false,
      );
      this.settings.noteAnswered(row);
    } catch (fault) {
      this.settings.noteAnswered(undefined);
      run.refuse("57014");
      return this.#refuseWith(nativeError("57014", (fault as Error).message), true);
    }
    return forward();
  }

  #resolve(analysed: AnalysedCommand, text: string): Resolved | "unsettled" {
    return this.names.resolve(analysed, text, this.#batch.number);
  }

  /** A command is about to be forwarded: what it does to the session. @returns its changes of names, by statement */
  #takeEffects(run: Run): ReadonlyMap<number, NameChange> {
    this.settings.noteForwarded(run.permit.analysis);
    if (!run.plain) {
      this.copyIn.noteForwarded(run);
      if (this.#batch.open && endsBlock(run)) this.#batch.endsBlock = true;
      this.#takeContext(run.statements);
    }
    const changes = this.names.changesOf(run, this.#batch.number);
    const inTransaction = this.transactionStatus !== "I";
    if (!run.plain)
      for (const statement of run.statements) this.#analyser.noteForwarded(statement, inTransaction, this.#endings + 1);
    return changes;
  }

  // --- extended protocol ---

  #parse(message: Parse): void | Promise<void> {
    if (this.#needsNames(message.query)) return this.#whenSettled(() => this.#handle(message));
    return this.#judgedParse(message);
  }

  #judgedParse(message: Parse): void | Promise<void> {
    this.#batch.open = true;
    const analysed = this.#analyser.analyse(message.query);
    const forward = () => {
      const entry = this.names.prepared(message.query);
      const change = this.names.preparing(message.statement, this.#batch.number, entry);
      this.expected.push({ kind: "parse", change });
      this.#send(message);
    };
    // What is prepared runs nothing yet: its execution is authorised at Bind, with its parameters. A text that policy
    // denies whatever its parameters is refused, and recorded, here.
    const resolved = this.#resolve(analysed, message.query);
    if (resolved === "unsettled") return this.#whenSettled(() => this.#handle(message));
    if (this.session.preview(resolved.analysis, message.query).verdict !== "deny") return forward();
    return then(this.#authorise(message.query, resolved, [], "parse"), (ruling) => {
      if (ruling.kind === "skipped") return;
      if (ruling.kind === "cancelled") return this.#refuseWith(cancelled, false, message.statement);
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, false, message.statement);
      // By now policy lets it through, as may be at its Bind; nothing of it has run.
      this.session.finish(ruling.permit, "skipped");
      return forward();
    });
  }

  #bind(message: Bind): void | Promise<void> {
    const lookup = this.names.statements.lookup(message.statement, this.#batch.number);
    if (lookup.kind === "unsettled" || (lookup.kind === "found" && this.#needsNames(lookup.value.text)))
      return this.#whenSettled(() => this.#handle(message));
    this.#batch.open = true;
    if (lookup.kind === "absent") return this.#refuseWith(absentStatement(message.statement));
    const entry = lookup.value;
    const params = message.parameters.map((value, index) => {
      const { parameterFormats: formats } = message;
      const format = formats.length === 0 ? 0 : formats.length === 1 ? formats[0] : formats[index];
      return value === null ? null : recordedValue(value, format ?? 0);
    });
    if (this.expected.length > 0 && !this.names.portals.hasRoomFor(message.portal, parametersLength(params)))
      return this.#drained().then(() => this.#handle(message));
    const analysed = this.names.analysisOf(entry);
    const resolved = this.#resolve(analysed, entry.text);
    if (resolved === "unsettled") return this.#whenSettled(() => this.#handle(message));
    const authorised = this.#authorise(entry.text, resolved, params, "bind");
    // The views of the received bytes are valid now only: what outlives a wait is a copy.
    const bind = authorised instanceof Promise ? detached(message) : message;
    return then(authorised, (ruling) => {
      if (ruling.kind === "skipped") return;
      if (ruling.kind === "cancelled") return this.#refuseWith(cancelled);
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, false);
      if (this.#refuseNatively(ruling.permit, resolved, false)) return;
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
        fetched: false,
        declared: false,
        hold: false,
      };
      this.#batch.holds = true;
      const change = sent(run, () => this.names.binding(message.portal, this.#batch.number, portal));
      this.expected.push({ kind: "bind", change });
      this.#send(bind);
      this.#askColumns(message.portal, run);
    });
  }

  #execute(message: Execute): void | Promise<void> {
    const lookup = this.names.portals.lookup(message.portal, this.#batch.number);
    const needsNames = lookup.kind === "found" && this.#needsNames(lookup.value.statement.text);
    if (lookup.kind === "unsettled" || needsNames || this.settings.pending)
      return this.#whenSettled(() => this.#handle(message));
    this.#batch.open = true;
    if (lookup.kind === "absent") return this.#refuseWith(absentPortal(message.portal, message.type));
    const portal = lookup.value;
    const { run } = portal;
    const forward = () => {
      this.#obligeInBatch(portal.run.permit.decision.obligations);
      this.expected.push({ kind: "execute", run: portal.run, portal, change: this.#takeEffects(portal.run).get(0) });
      this.#batch.executes += 1;
      this.#batch.holds = true;
      this.#send(message);
    };
    // What began goes on as it was judged and described: of EXECUTE and FETCH the target would describe what the name
    // means by now, and send the rows of before.
    if (portal.started) return forward();
    const ageMs = Date.now() - run.permit.judgedAtMs;
    // A clock that was set back says nothing of an age.
    const isTimely = ageMs >= 0 && ageMs <= limits.portalJudgementMsMax;
    const isAsJudged =
      isTimely && this.session.policy === run.permit.policy && portal.context === this.#analyser.context;
    if (isAsJudged && portal.entries.length === 0) return forward();
    // It may be running already, by another Execute: what that comes to says what is left to judge.
    if (this.expected.some((entry) => entry.kind === "execute" && entry.portal === portal))
      return this.#drained().then(() => this.#handle(message));
    const analysed = this.names.analysisOf(portal.statement);
    const resolved = this.#resolve(analysed, portal.statement.text);
    if (resolved === "unsettled") return this.#whenSettled(() => this.#handle(message));
    if (resolved.entries.some((entry, index) => entry !== portal.entries[index])) return this.#refuseWith(madeAnew);
    if (isAsJudged) {
      this.#askColumns(message.portal, portal.run);
      return forward();
    }
    // Time went by, or the policy, the catalog or the search path changed since Bind: it is judged again.
    return then(this.#authorise(portal.statement.text, resolved, portal.params, "execute"), (ruling) => {
      if (ruling.kind === "skipped") return;
      if (ruling.kind === "cancelled") return this.#refuseWith(cancelled);
      if (ruling.kind === "denied") return this.#refuse(ruling, analysed, false);
      if (this.#refuseNatively(ruling.permit, resolved, false)) return;
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
    const closing = this.outgoing.sendOwn(this.settings.take(obligations));
    this.expected.push({ kind: "settings", row: undefined, closing });
  }

  /** Rows are masked by what the portal itself will send, asked of the target and not of the client. */
  #askColumns(portal: string, run: Run): void {
    this.#send({ type: "Describe", kind: "portal", name: portal });
    this.expected.push({ kind: "describePortal", run, judges: true, answers: false });
  }

  #describe(message: Describe): void | Promise<void> {
    this.#batch.open = true;
    if (message.kind === "statement") {
      this.expected.push({ kind: "describeStatement", parametersSeen: false });
    } else {
      const lookup = this.names.portals.lookup(message.name, this.#batch.number);
      if (lookup.kind === "unsettled") return this.#whenSettled(() => this.#handle(message));
      if (lookup.kind === "absent") return this.#refuseWith(absentPortal(message.name, message.type));
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
    this.#batch.open = true;
    const registry = message.kind === "statement" ? "statements" : "portals";
    this.expected.push({ kind: "close", change: this.names.closing(registry, message.name, this.#batch.number) });
    this.#send(message);
  }

  // --- COPY ---

  /** The target takes data from here on. */
  copyBegan(): void {
    this.copyIn.begin();
    this.answered();
  }

  /** The command that took data is over. */
  copyEnded(): void {
    for (let held = this.copyIn.end(); held > 0; held--) this.#endBySync();
    this.flush();
  }

  // --- shared ---

  #authorise(
    text: string,
    resolved: Resolved,
    params: readonly (string | null)[],
    via: string,
  ): Authorised | Promise<Authorised> {
    if (this.#abandoned) return { kind: "skipped" };
    const { analysis, bodies } = resolved;
    const { labels } = this.#analyser;
    const standsFor = bodies.length > 0 ? bodies : undefined;
    const hold = new CommandHold(this.#notify, () => this.#stillMeans(text, resolved));
    const ruling = this.session.authorise({ text, standsFor, analysis, labels, params, via }, hold);
    if (!(ruling instanceof Promise)) return ruling;
    this.#hold = hold;
    // What was judged before goes out now, and is answered: the wait may be long.
    this.#sendOn();
    return ruling.finally(() => (this.#hold = undefined)).then((given) => this.#unlessEnded(given));
  }

  /**
   * What came before it in its batch may have failed while it waited: the target passes over it, and answers nothing.
   * Or its client left, or cancelled it.
   */
  #unlessEnded(ruling: Ruling): Authorised {
    if (this.#batch.failed || this.#abandoned) {
      if (ruling.kind === "permitted") this.session.finish(ruling.permit, this.#abandoned ? "lost" : "skipped");
      return { kind: "skipped" };
    }
    if (!this.#withdrawn || ruling.kind === "denied") return ruling;
    this.session.finish(ruling.permit, "cancelled", "57014");
    return { kind: "cancelled" };
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

  /** Whatever policy says. */
  #refuseNatively(permit: Permit, command: Resolved, simple: boolean): boolean {
    const fields = refusalOf(command, permit.analysis, permit.decision.obligations);
    if (fields === undefined) return false;
    this.session.finish(permit, "error", fields.C);
    this.#refuseWith(fields, simple);
    return true;
  }

  /** @param statement of a Parse that is refused: one without a name, even if it fails, ends what had none before it. */
  #refuseWith(fields: NoticeFields, simple = false, statement = refusedElsewhere): void {
    this.expected.push({ kind: "refused", fields, simple, answered: false });
    if (simple) {
      this.#send({ type: "Query", query: refusedStatement });
      this.#endBatch();
    } else {
      this.#send(refusedParse(statement));
      this.#batch.failed = true;
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

  /**
   * Names have to be read before this is judged. What names nothing needs none: SET TRANSACTION has to come before any
   * query, and what ends a transaction or lifts a timeout must not wait for one. A transaction begins with fresh names,
   * and so does a batch, as reading them in it makes a later VACUUM or LOCK the second of its statements.
   */
  #needsNames(text: string, simple = false): boolean {
    if (!this.#stale()) return false;
    if (this.#analyser.labelsOutdated) return true;
    if (!simple && this.transactionStatus === "I" && !this.#batch.holds) return true;
    const { nameless, statements } = this.#analyser.analyse(text);
    return !nameless || statements.some(({ transaction }) => transaction === "begin" || transaction === "start");
  }

  /** In a failed transaction block, which nothing that was forwarded can end: no name can be read, and none matters. */
  #hasFailed(): boolean {
    if (this.transactionStatus !== "E" || this.#batch.endsBlock) return false;
    return !this.expected.some((entry) => {
      if (entry.kind === "sync") return entry.endsBlock;
      return (entry.kind === "query" || entry.kind === "execute") && endsBlock(entry.run);
    });
  }

  #endBatch(): void {
    if (this.#batch.readNames) this.#analyser.invalidate();
    this.#batch.end();
  }

  /** Sends what is encoded, so that the target answers it where it owes more than this. */
  #sendOn(owedMax = 0): void {
    if (this.#batch.open && this.expected.length > owedMax) this.#send({ type: "Flush" });
    this.flush();
  }

  /** What the client sent was forwarded and answered, or the target waits for data that will not come. */
  async settled(): Promise<void> {
    this.#sendOn();
    while (this.expected.length > 0 && !this.copyIn.taking) await this.#nextAnswer();
  }

  /** Sends what is encoded, and waits until the target owes no more than this. */
  async #drained(owedMax = 0): Promise<void> {
    this.#sendOn(owedMax);
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
      if (!this.#batch.failed) this.#refuseWith(nativeError(fault.sqlstate, fault.said), simple);
      return;
    }
    if (this.#withdrawn && !this.#batch.failed) return this.#refuseWith(cancelled, simple);
    return next();
  }

  /** Waits until the target owes nothing, then brings names up to date where they may have changed. */
  async #settle(): Promise<void> {
    await this.#drained();
    // Another policy may come in force meanwhile. What the target skips needs no names, and would get no answer.
    while (!this.#batch.failed && (this.#stale() || this.#analyser.labelsOutdated)) {
      if (!this.#stale()) {
        await this.#analyser.relabel();
        continue;
      }
      // The target is asked in the client's own batch: what it has done to names so far counts.
      if (this.#batch.open && this.#analyser.changed) this.#batch.readNames = true;
      const isUncommitted = this.#batch.open || this.transactionStatus !== "I";
      await this.readNames(isUncommitted);
    }
  }

  /**
   * Once more where what it asked for went away meanwhile, or was locked, and no transaction failed of it.
   * @throws GatewayError `Interrupted`, or upstream.protocol
   */
  async readNames(isUncommitted: boolean): Promise<void> {
    const refresh = () => this.#analyser.refresh((sql) => this.#internalQuery(sql), isUncommitted);
    try {
      await refresh();
    } catch (fault) {
      if (!(fault instanceof Interrupted) || fault.sqlstate === "57014" || isUncommitted) throw fault;
      await refresh();
    }
  }

  /** A query of the gateway's own on the session's connection; only while the target owes nothing. */
  #internalQuery(
    sql: string,
    failure = "the target's catalog could not be read",
    // An Execute before its own changes what the client's may do: LOCK and VACUUM ask whether they are the first.
    inBatch = this.#batch.holds,
  ): Promise<Rows> {
    const { owed, rows } = ownQuery(this.outgoing.sendOwn(sql), inBatch, failure);
    this.expected.push(owed);
    this.#send({ type: inBatch ? "Flush" : "Sync" });
    this.flush();
    return rows;
  }

  #send(message: FrontendMessage): void {
    if (message.type === "Sync" || message.type === "Query") this.#endings += 1;
    this.outgoing.send(message);
  }

  flush(): void {
    this.outgoing.flush();
  }
}

/** What a cancel is for, on the target. */
function isRunning(entry: Expected): boolean {
  return entry.kind === "query" || entry.kind === "execute" || (entry.kind === "sync" && entry.executes > 0);
}

/** Neither refused already, nor the gateway's own, nor what has to be answered. */
function isRefusable({ kind }: Expected): boolean {
  return kind !== "refused" && kind !== "internal" && kind !== "sync";
}

/** One that may be refused in the place of the client's. */
function isInBatch({ type }: FrontendMessage | Unreadable): boolean {
  return type === "Parse" || type === "Bind" || type === "Execute" || type === "Describe" || type === "Close";
}

function refusedParse(statement: string): Parse {
  return { type: "Parse", statement, query: refusedStatement, parameterTypeOids: [] };
}

/** BEGIN, COMMIT, ROLLBACK TO and their like are among its statements. */
function endsBlock({ plain, statements }: Run): boolean {
  return !plain && statements.some(({ transaction }) => transaction !== undefined);
}

/** @returns what `send` does. Where its names are too many, the session ends, and the command has not run. */
function sent<T>(run: Run, send: () => T): T {
  try {
    return send();
  } catch (fault) {
    run.refuse("54000");
    throw fault;
  }
}

function then<T>(value: T | Promise<T>, next: (value: T) => void | Promise<void>): void | Promise<void> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function detached(message: Bind): Bind {
  return { ...message, parameters: message.parameters.map((value) => value && Buffer.from(value)) };
}
