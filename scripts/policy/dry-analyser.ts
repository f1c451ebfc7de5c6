/** Names of a session that is not connected to any target: the catalog is a file's, and DDL that was permitted changes it. */
import type { Policy } from "../../gateway/policy/policy.ts";
import type { AnalysedStatement, SessionAnalyser } from "../../gateway/postgres/analysed.ts";
import { AnalysisCache } from "../../gateway/postgres/sql/cache.ts";
import { attributeKey, type Catalog, type NameContext } from "../../gateway/postgres/sql/catalog.ts";
import { type Attribute, bindLabels } from "../../gateway/postgres/sql/labels.ts";
import { type SqlCatalog, temporarySchema } from "./catalog/from-sql.ts";

type Labels = ReturnType<Policy["labelsOf"]>;

export class DryAnalyser implements SessionAnalyser {
  readonly #labels: Labels;
  readonly #names: SqlCatalog;
  readonly #cache = new AnalysisCache();
  /** As in search_path: pg_catalog and the temporary schema only where they are written. */
  #path: readonly string[];
  readonly #defaultPath: readonly string[];
  #bindings: ReadonlyMap<string, Attribute> = new Map();
  #bound: { catalog: Catalog; context: NameContext } | undefined;
  #forwarded: AnalysedStatement[] = [];
  #transaction: { readonly path: readonly string[]; readonly names: ReturnType<SqlCatalog["save"]> } | undefined;

  constructor(names: SqlCatalog, labels: Labels) {
    this.#names = names;
    this.#labels = labels;
    this.#path = ["$user", ...names.catalog.searchPath.filter((schema) => schema !== "pg_catalog")];
    this.#defaultPath = this.#path;
  }

  get context(): NameContext {
    const { catalog } = this.#names;
    if (this.#bound?.catalog === catalog) return this.#bound.context;
    const { labels, bindings } = bindLabels(catalog, this.#labels, this.#bindings);
    this.#bindings = bindings;
    this.#bound = { catalog, context: { catalog, labels, searchPath: this.#effectivePath(catalog) } };
    return this.#bound.context;
  }

  /** current_schemas(true) */
  #effectivePath(catalog: Catalog): string[] {
    const named = this.#path
      .map((schema) => (schema === "pg_temp" ? temporarySchema : schema))
      .filter((schema, index, all) => catalog.hasSchema(schema) && all.indexOf(schema) === index);
    const implied = [temporarySchema, "pg_catalog"].filter(
      (schema) => catalog.hasSchema(schema) && !named.includes(schema),
    );
    return [...implied, ...named];
  }

  get changed(): boolean {
    return this.#forwarded.length > 0;
  }
  get stale(): boolean {
    return this.changed;
  }
  readonly labelsOutdated = false;
  get labels(): Labels {
    return this.#labels;
  }

  analyse(text: string) {
    return this.#cache.analyse(text, this.context);
  }
  labelsOf(oid: number, attnum: number): readonly string[] | undefined {
    return this.context.labels.get(attributeKey(oid, attnum))?.labels;
  }
  isDerived(oid: number, attnum: number): boolean {
    return this.context.labels.get(attributeKey(oid, attnum))?.derived === true;
  }
  readonly redefinitions = 0;
  isRedefined(): boolean {
    return false;
  }

  /** Nothing here takes effect later than it is forwarded. */
  noteSettled(): void {}

  noteForwarded(statement: AnalysedStatement): void {
    this.#forwarded.push(statement);
  }
  invalidate(): void {}
  async refresh(): Promise<void> {}
  async relabel(): Promise<void> {}

  /** The target ran what was forwarded of this text, as far as names are concerned. */
  succeeded(text: string): void {
    if (/^\s*(discard|reset)\s+all\b/i.test(text)) this.#setPath(this.#defaultPath);
    for (const { transaction, setting } of this.#forwarded) {
      if (transaction === "begin" || transaction === "start") {
        this.#transaction = { path: this.#path, names: this.#names.save() };
      } else if (transaction === "rollback" && this.#transaction !== undefined) {
        this.#names.restore(this.#transaction.names);
        this.#setPath(this.#transaction.path);
      } else if (setting?.name === "search_path") {
        this.#setPath(setting.value === null ? this.#defaultPath : setting.value.split(", "));
      }
      if (transaction === "commit" || transaction === "rollback") this.#transaction = undefined;
    }
    if (this.#forwarded.some(({ changesCatalog }) => changesCatalog)) this.#names.apply(text, this.context.searchPath);
    this.#forwarded = [];
  }

  failed(): void {
    this.#forwarded = [];
  }

  #setPath(path: readonly string[]): void {
    this.#path = path;
    this.#bound = undefined;
  }
}
