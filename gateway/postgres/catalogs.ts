/**
 * Catalogs of targets and what one session makes of them. A snapshot is read on the session's own connection when it
 * opens and again whenever a statement of it may have changed names, so that it sees its own uncommitted objects. A
 * change of another session through this gateway makes every session of that database read again.
 */
import type { PostgresTarget } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import { sameLabels } from "../policy/data.ts";
import type { PolicyRevision, PolicySource } from "../session/dependencies.ts";
import type { LabelBinding, LabelBindingChange } from "../store/queries.ts";
import type { AnalysedStatement, InternalQuery, SessionAnalyser } from "./analysed.ts";
import type { AnalyserSource } from "./server.ts";
import { AnalysisCache } from "./sql/cache.ts";
import { attributeKey, type Catalog, type NameContext } from "./sql/catalog.ts";
import { type Attribute, type Bindings, bindLabels, boundName } from "./sql/labels.ts";
import { loadCatalog, loadNames, mayBeThere } from "./sql/load-catalog.ts";

/** Nothing is under way for as long as so much DDL takes. */
const redefinedMax = 1_000;

interface BindingStore {
  labelBindings(target: string, database: string): Promise<readonly LabelBinding[]>;
  saveLabelBindings(target: string, database: string, change: LabelBindingChange): Promise<unknown>;
}

/** Names of relations, without schemas. */
type Redefined = readonly string[] | "anything";

interface Shared {
  /** Rises when a session of this gateway ran something that may have changed names. */
  epoch: number;
  /** DDL that took effect for other sessions, the oldest forgotten. */
  readonly redefined: { readonly by: symbol; readonly names: Redefined }[];
  /** All that there ever were. */
  redefinitions: number;
  /** `at`, as all ages here, by a clock that nobody sets back. */
  loaded: { epoch: number; at: number; policy: PolicyRevision; context: NameContext } | undefined;
  /** Labelled columns that were not there when it was looked last. */
  missing: string;
}

type Log = Pick<Logger, "warn">;

export class Catalogs implements AnalyserSource {
  readonly #store: BindingStore;
  readonly #policies: PolicySource;
  readonly #log: Log | undefined;
  readonly #shared = new Map<string, Shared>();

  constructor(store: BindingStore, policies: PolicySource, log?: Log) {
    this.#store = store;
    this.#policies = policies;
    this.#log = log;
  }

  forSession(target: PostgresTarget, database: string): SessionAnalyser {
    const key = `${target.name}/${database}`;
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      shared = { epoch: 0, redefined: [], redefinitions: 0, loaded: undefined, missing: "" };
      this.#shared.set(key, shared);
    }
    return new CatalogAnalyser({
      store: this.#store,
      policies: this.#policies,
      log: this.#log,
      shared,
      target: target.name,
      database,
    });
  }
}

interface Parts {
  readonly store: BindingStore;
  readonly policies: PolicySource;
  readonly log: Log | undefined;
  readonly shared: Shared;
  readonly target: string;
  readonly database: string;
}

class CatalogAnalyser implements SessionAnalyser {
  readonly #parts: Parts;
  /** What its DDL is remembered by: a session that has ended leaves nothing else, its policy and texts least of all. */
  readonly #mark = Symbol();
  #cache = new AnalysisCache();
  #context: NameContext | undefined;
  #epoch = -1;
  #readAt = 0;
  #policy: PolicyRevision | undefined;
  #labels: ReadonlyMap<string, readonly string[]> = new Map();
  #ownChange = false;
  /** Something the end of a transaction may undo was forwarded: SET LOCAL, or anything in one that fails. */
  #undoable = false;
  /**
   * Others may have read names between when it was forwarded and when it took effect: they are told again then. With
   * which of the target's ReadyForQuery that is.
   */
  #unsettled: { readonly ending: number; readonly changes: readonly Redefined[] }[] = [];
  /** An open transaction has changed what others will see. */
  #changesCatalog = false;
  /** By DDL of an open transaction, whose end makes others see it. */
  #redefinedAtEnd: Redefined[] = [];

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get searchPath(): readonly string[] {
    return this.context.searchPath;
  }
  get context(): NameContext {
    if (this.#context === undefined) throw new Error("the catalog was not read");
    return this.#context;
  }

  get changed(): boolean {
    return this.#ownChange;
  }

  /** Names may be outdated: own or another session's change, other labels, or age. */
  get stale(): boolean {
    return (
      this.#ownChange ||
      this.#epoch !== this.#parts.shared.epoch ||
      this.#policy !== this.#parts.policies.current() ||
      performance.now() - this.#readAt > limits.catalogRefreshMs
    );
  }

  get labels(): ReadonlyMap<string, readonly string[]> {
    return this.#labels;
  }

  get labelsOutdated(): boolean {
    return !sameLabels(this.#labels, this.#parts.policies.current().labelsOf(this.#parts.target));
  }

  get encoding(): string | undefined {
    return this.context.catalog.snapshot.encoding;
  }

  analyse(text: string) {
    return this.#cache.analyse(text, this.context);
  }

  labelsOf(oid: number, attnum: number): readonly string[] | undefined {
    return this.context.labels.get(`${oid}.${attnum}`)?.labels;
  }

  isDerived(oid: number, attnum: number): boolean {
    return this.context.labels.get(`${oid}.${attnum}`)?.derived === true;
  }

  get redefinitions(): number {
    return this.#parts.shared.redefinitions;
  }

  isRedefined(since: number, relations: ReadonlySet<string>): boolean {
    const { redefined, redefinitions } = this.#parts.shared;
    const count = redefinitions - since;
    if (count > redefined.length) return true;
    return redefined
      .slice(redefined.length - count)
      .some(
        ({ by, names }) => by !== this.#mark && (names === "anything" || names.some((name) => relations.has(name))),
      );
  }

  noteForwarded(statement: AnalysedStatement, inTransaction: boolean, ending: number): void {
    if (statement.transaction !== undefined) return this.#noteTransaction(statement.transaction, ending);
    const { redefines, changesCatalog } = statement;
    if (redefines !== undefined && inTransaction) {
      this.#redefinedAtEnd = [...this.#redefinedAtEnd, redefines].slice(-redefinedMax - 1);
    }
    if (changesCatalog || statement.changesSession) {
      this.#ownChange = true;
      this.#undoable = true;
    }
    const changes = redefines === undefined || inTransaction ? [] : [redefines];
    if (changesCatalog) this.#changesCatalog = true;
    if (changesCatalog || changes.length > 0) this.#publish(changes, ending);
  }

  noteSettled(ended: number): void {
    while (this.#unsettled[0] !== undefined && this.#unsettled[0].ending <= ended) {
      this.#tellOthers(this.#unsettled.shift()?.changes ?? []);
    }
  }

  #publish(changes: readonly Redefined[], ending: number): void {
    this.#tellOthers(changes);
    this.#unsettled.push({ ending, changes });
    // Of more than so many at once it is only kept that anything may have changed.
    const [first, second] = this.#unsettled;
    if (this.#unsettled.length <= redefinedMax || first === undefined || second === undefined) return;
    this.#unsettled.splice(0, 2, { ending: second.ending, changes: ["anything"] });
  }

  /** Names read before now may be outdated. */
  #tellOthers(changes: readonly Redefined[]): void {
    const { shared } = this.#parts;
    for (const names of changes) shared.redefined.push({ by: this.#mark, names });
    shared.redefinitions += changes.length;
    if (shared.redefined.length > redefinedMax) shared.redefined.splice(0, shared.redefined.length - redefinedMax);
    shared.epoch += 1;
  }

  #noteTransaction(what: string, ending: number): void {
    const isOver = /^(?:commit|rollback|prepare)$/.test(what);
    // Of a prepared transaction it is not known what it did.
    const isPrepared = /_prepared$/.test(what);
    const isUndone = this.#undoable && !/^(?:begin|start)$/.test(what);
    if (isPrepared || isUndone) this.#ownChange = true;
    const changes = [...(isPrepared ? ["anything" as const] : []), ...(isOver ? this.#redefinedAtEnd : [])];
    // What was read since the change may be what came before it.
    if (changes.length > 0 || (isUndone && this.#changesCatalog)) this.#publish(changes, ending);
    // A savepoint ends nothing: what came before it is still undone by the end of the transaction.
    if (isOver) {
      this.#undoable = false;
      this.#changesCatalog = false;
      this.#redefinedAtEnd = [];
    }
  }

  invalidate(): void {
    this.#ownChange = true;
  }

  async refresh(run: InternalQuery, inTransaction: boolean): Promise<void> {
    const { shared, policies } = this.#parts;
    const policy = policies.current();
    const { epoch } = shared;
    const { searchPath } = await loadNames(run);
    const { loaded } = shared;
    const mine = this.#context;
    const now = performance.now();
    // Another session's snapshot serves while nothing changed through this gateway and it is fresh; a session that
    // opens looks for itself, so that it knows what was there when it began.
    const usable =
      mine !== undefined &&
      !this.#ownChange &&
      // Nobody else sees what this transaction has changed.
      !(inTransaction && this.#undoable) &&
      loaded &&
      loaded.epoch === epoch &&
      loaded.policy === policy &&
      now - loaded.at < limits.catalogRefreshMs;
    const base = usable ? loaded.context : await this.#load(run, policy, epoch, inTransaction);
    const samePath = mine !== undefined && mine.searchPath.join("\n") === searchPath.join("\n");
    if (!(samePath && mine.catalog === base.catalog && mine.labels === base.labels)) {
      this.#context = { ...base, searchPath };
      this.#cache = new AnalysisCache();
    }
    this.#ownChange = false;
    this.#epoch = epoch;
    this.#policy = policy;
    this.#labels = policy.labelsOf(this.#parts.target);
    this.#readAt = now;
  }

  async relabel(): Promise<void> {
    const { policies, target } = this.#parts;
    const wanted = policies.current().labelsOf(target);
    const { labels } = bindLabels(this.context.catalog, wanted, await this.#bindings());
    this.#labels = wanted;
    this.#context = { ...this.context, labels };
    this.#cache = new AnalysisCache();
  }

  /** Where labels were seen: one follows its column through a rename, and stays where its values went. */
  async #bindings(): Promise<Map<string, Attribute>> {
    const { store, target, database } = this.#parts;
    const rows = await store.labelBindings(target, database);
    return new Map(rows.map((row) => [row.name, { oid: row.oid, attnum: row.attnum }]));
  }

  async #load(run: InternalQuery, policy: PolicyRevision, epoch: number, inTransaction: boolean): Promise<NameContext> {
    // A snapshot inside a transaction may show what is never committed, or what no longer is.
    const isOwn = this.#ownChange || inTransaction;
    const { shared, store, target, database } = this.#parts;
    const known = shared.loaded;
    const catalog: Catalog = await loadCatalog(run, known?.context.catalog);
    if (known && catalog === known.context.catalog && policy === known.policy) {
      // Nothing changed: contexts, and the analyses and decisions kept by them, stay.
      if (!isOwn) shared.loaded = { ...known, epoch, at: performance.now() };
      return known.context;
    }
    const wanted = policy.labelsOf(target);
    const previous = await this.#bindings();
    const { labels, bindings } = bindLabels(catalog, wanted, previous);
    if (bindings.size > limits.labelBindingsMax) {
      throw new GatewayError(
        "protocol.too_large",
        `more than ${limits.labelBindingsMax} columns of the database have a label`,
        {
          hint: "A column counts once for each name of the policy's that it has a label by: drop tables, or label fewer.",
        },
      );
    }
    // What a transaction names may never be; where values can go in it, they may stay. Others do not see that, but know of it.
    const kept = inTransaction ? bindLabels(catalog, wanted, previous, true).bindings : bindings;
    const added = [...kept].filter(([name]) => !previous.has(name)).map(([name, bound]) => ({ name, ...bound }));
    // What is never committed must not make a label forget its column.
    const lost = inTransaction ? [] : await gone(run, catalog, previous, kept);
    // Of labels that a policy has since, others may have bound them already.
    const removed = policy === this.#parts.policies.current() ? lost : [];
    if (added.length + removed.length > 0) await store.saveLabelBindings(target, database, { added, removed });
    const context: NameContext = { catalog, labels, searchPath: [] };
    if (!isOwn) shared.loaded = { epoch, at: performance.now(), policy, context };
    if (!inTransaction) this.#tellMissing(policy, bindings);
    return context;
  }

  /** A label that is misspelt hides nothing. Once for each set of them: tables may be made later, or be in another database. */
  #tellMissing(policy: PolicyRevision, bindings: ReadonlyMap<string, unknown>): void {
    const { shared, target, database, log } = this.#parts;
    const bound = new Set([...bindings.keys()].map(boundName));
    const columns = [...policy.labelsOf(target).keys()].filter((name) => !bound.has(name)).sort();
    const missing = columns.join("\n");
    if (missing === shared.missing) return;
    shared.missing = missing;
    if (columns.length === 0) return;
    log?.warn("labels name columns that the database does not have: are they misspelt?", { target, database, columns });
  }
}

/** Of what was bound, what is no longer: its label is not there, or its column. @returns names of bindings */
async function gone(run: InternalQuery, catalog: Catalog, before: Bindings, now: Bindings): Promise<string[]> {
  const lost = [...before].filter(([name]) => !now.has(name));
  const isAbsent = ([, { oid, attnum }]: readonly [string, Attribute]) =>
    catalog.relationByOid(oid)?.columns.some((column) => column.attnum === attnum) !== true;
  const absent = lost.filter(isAbsent).map(([, bound]) => bound);
  const hidden = absent.length === 0 ? new Set() : await mayBeThere(run, absent);
  const isHidden = (one: readonly [string, Attribute]) =>
    isAbsent(one) && hidden.has(attributeKey(one[1].oid, one[1].attnum));
  return lost.filter((one) => !isHidden(one)).map(([name]) => name);
}
