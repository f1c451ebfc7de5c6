/**
 * Takes a snapshot of a database's names with plain text queries. Every name is qualified, operators too: the session's
 * search_path belongs to the caller, who must not be able to answer for the catalog.
 */
import { z } from "zod";
import { GatewayError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import {
  attributeKey,
  Catalog,
  type CatalogColumn,
  type CatalogOperator,
  type CatalogRelation,
  firstUsersOid,
} from "./catalog.ts";
import type { Attribute } from "./labels.ts";

export type CatalogQuery = (sql: string) => Promise<(string | null)[][]>;

const equal = "OPERATOR(pg_catalog.=)";
const unequal = "OPERATOR(pg_catalog.<>)";

/** One object that a view's text names: versions of its row and its schema's. */
const namedObject = (relation: string, schema: string, more = "") => `
    select pg_catalog.concat_ws(' ', '${relation}', x.oid, x.xmin, s.xmin${more})
      from pg_catalog.pg_rewrite w
      join pg_catalog.pg_depend d on d.classid ${equal} 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid ${equal} w.oid
        and d.refclassid ${equal} 'pg_catalog.${relation}'::pg_catalog.regclass
      join pg_catalog.${relation} x on x.oid ${equal} d.refobjid
      join pg_catalog.pg_namespace s on s.oid ${equal} x.${schema}
      where w.ev_class ${equal} c.oid`;
const columnsVersion = `, (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.xmin), ',' order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid ${equal} x.oid and a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2)`;

/**
 * Of a view's text, without asking for the text: that takes locks on all it names, which a transaction keeps, and fails
 * where one of them goes away meanwhile.
 */
const viewVersion = `
  (select pg_catalog.md5(pg_catalog.string_agg(v.part, ',' order by v.part)) from (
    select pg_catalog.concat_ws(' ', w.oid, w.xmin) as part from pg_catalog.pg_rewrite w where w.ev_class ${equal} c.oid
    union ${[
      namedObject("pg_class", "relnamespace", columnsVersion),
      namedObject("pg_proc", "pronamespace"),
      namedObject("pg_operator", "oprnamespace"),
      namedObject("pg_type", "typnamespace"),
    ].join("\n    union ")}) v)`;

/** @param from its OID on */
const relationsSql = (from: number) => `
select c.oid, n.nspname, c.relname, c.relkind,
  case when c.relkind ${equal} any (array['v','m']::pg_catalog."char"[]) and c.oid OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid
       then ${viewVersion} end,
  (select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod,
            case when a.attgenerated ${unequal} ''::pg_catalog."char" then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end)
          order by a.attnum)
     from pg_catalog.pg_attribute a
     left join pg_catalog.pg_attrdef d on d.adrelid ${equal} a.attrelid and d.adnum ${equal} a.attnum
      and a.attgenerated ${unequal} ''::pg_catalog."char"
    where a.attrelid ${equal} c.oid and a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 and not a.attisdropped),
  (select pg_catalog.json_agg(i.inhparent::pg_catalog.int8) from (
      select h.inhparent from pg_catalog.pg_inherits h where h.inhrelid ${equal} c.oid
      union all select t.typrelid from pg_catalog.pg_type t where t.oid ${equal} c.reloftype) i),
  c.relhasrules and exists (select from pg_catalog.pg_rewrite w
    where w.ev_class ${equal} c.oid and w.rulename ${unequal} '_RETURN'::pg_catalog.name),
  (select pg_catalog.array_to_json(k.partattrs::pg_catalog.int2[]) from pg_catalog.pg_partitioned_table k where k.partrelid ${equal} c.oid)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid ${equal} c.relnamespace
where c.relkind ${equal} any (array['r','p','v','m','f','S','c']::pg_catalog."char"[])
  and c.oid OPERATOR(pg_catalog.>=) ${from}::pg_catalog.oid
limit ${limits.catalogRelationsMax + 1}`;

const functionsSql = `
select distinct n.nspname, p.proname from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid ${equal} p.pronamespace`;
const addedFunctionsSql = `${functionsSql}
where p.oid OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid
  and n.nspname ${equal} any (array['pg_catalog', 'information_schema']::pg_catalog.name[])`;

/**
 * Spelled for a search path that says all of PostgreSQL's own and of the session's temporary objects, so that any other
 * name has its schema, and PostgreSQL finds the views by its own operators. The session's path is set back in the same
 * statement; where that fails, so does all of it.
 */
const definitionsSql = (views: readonly number[]) => `
with before as materialized (select pg_catalog.current_setting('search_path') as path),
  ours as materialized (select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true) as path from before),
  texts as materialized (select c.oid, pg_catalog.pg_get_viewdef(c.oid) as text from ours, pg_catalog.pg_class c
    where c.oid ${equal} any ('{${views.join()}}'::pg_catalog.oid[])),
  after as materialized (select pg_catalog.set_config('search_path', before.path, true) as path
    from before, (select pg_catalog.count(*) from texts) as read)
select texts.oid, texts.text from texts, after`;
const definitionsPath = (searchPath: readonly string[]) => [
  "pg_catalog",
  ...searchPath.filter((schema) => schema.startsWith("pg_temp")),
];

/** Operators of extensions are left out: making them takes a superuser's trust, and = itself may be among them. */
const operatorsSql = `
select n.nspname, o.oprname, pn.nspname, p.proname from pg_catalog.pg_operator o
join pg_catalog.pg_namespace n on n.oid ${equal} o.oprnamespace
join pg_catalog.pg_proc p on p.oid ${equal} o.oprcode
join pg_catalog.pg_namespace pn on pn.oid ${equal} p.pronamespace
where o.oid OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid
  and not exists (select from pg_catalog.pg_depend d where d.classid ${equal} 'pg_catalog.pg_operator'::pg_catalog.regclass
    and d.objid ${equal} o.oid and d.deptype ${equal} 'e'::pg_catalog."char")`;

/** Arrays' names are never those of what they hold; a domain has the category of its base type. */
const typesSql = `
select n.nspname, t.typname from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid ${equal} t.typnamespace
where t.oid OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid and t.typtype ${unequal} 'c'::pg_catalog."char"
  and (t.typtype ${unequal} 'b'::pg_catalog."char" or t.typcategory ${unequal} 'A'::pg_catalog."char")`;

/** Types of columns that have rows in them: what arrays, domains and ranges are made of is looked into. */
const rowTypesSql = `
with recursive used as (
  select distinct a.atttypid as type, a.atttypid as part from pg_catalog.pg_attribute a
    where a.atttypid OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid
      and a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 and not a.attisdropped
  union
  select u.type, n.part from used u join pg_catalog.pg_type t on t.oid ${equal} u.part
    left join pg_catalog.pg_range r on r.rngtypid ${equal} u.part or r.rngmultitypid ${equal} u.part
    cross join lateral (values (t.typelem), (t.typbasetype), (r.rngsubtype)) n(part)
    where n.part OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid)
select u.type, t.typrelid from used u join pg_catalog.pg_type t on t.oid ${equal} u.part
where t.typrelid ${unequal} 0::pg_catalog.oid`;

const pathSql = "select pg_catalog.json_build_array(pg_catalog.current_schemas(true), current_user)";
const schemasSql = "select nspname from pg_catalog.pg_namespace";

/** Row versions of everything that is read above and can change. */
const versions = (relation: string, row: string, where: string) =>
  `'${relation}', (select pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', ${row}, x.xmin), ',')) from pg_catalog.${relation} x where ${where})`;
const own = (column: string) => `x.${column} OPERATOR(pg_catalog.>=) ${firstUsersOid}::pg_catalog.oid`;
/** With what is told of the server and the session in the same answer. */
const signatureSql = `select pg_catalog.json_build_object(
'server', pg_catalog.current_setting('server_version_num'), 'encoding', pg_catalog.getdatabaseencoding(),
'path', pg_catalog.current_schemas(true),
${[
  versions("pg_namespace", "x.oid", "true"),
  versions("pg_class", "x.oid", own("oid")),
  versions("pg_attribute", "x.attrelid, x.attnum", own("attrelid")),
  versions("pg_attrdef", "x.oid", own("adrelid")),
  versions("pg_inherits", "x.inhrelid, x.inhparent", "true"),
  versions("pg_rewrite", "x.oid", own("ev_class")),
  versions("pg_proc", "x.oid", own("oid")),
  versions("pg_operator", "x.oid", own("oid")),
  versions("pg_type", "x.oid", own("oid")),
].join(",\n")})`;

const columnsShape = z.array(z.tuple([z.int(), z.string(), z.int(), z.int(), z.string().nullable()]));
const numbersShape = z.array(z.int());
const signatureShape = z
  .object({ server: z.string(), encoding: z.string(), path: z.array(z.string()) })
  .catchall(z.string().nullable());
type Signature = z.infer<typeof signatureShape>;
const pathShape = z.tuple([z.array(z.string()), z.string()]);

/**
 * @param previous is given back itself where nothing that it says has changed since.
 * @throws GatewayError upstream.protocol when the target answers in a shape that is not understood.
 */
export async function loadCatalog(run: CatalogQuery, previous?: Catalog): Promise<Catalog> {
  const signature = textOf((await run(signatureSql))[0]?.[0]);
  if (previous?.signature === signature) return previous;
  const told = read(signatureShape, signature);
  const { path: searchPath, encoding } = told;
  const before = previous?.snapshot;
  const isAsBefore = unchanged(told, before && read(signatureShape, before.signature));
  /** Of the previous snapshot, where nothing has changed that it was read from. */
  const kept = async <Part>(known: Part | undefined, sources: readonly string[], readAnew: () => Promise<Part>) =>
    known !== undefined && isAsBefore(...sources) ? known : readAnew();
  const systemRelations = isAsBefore() ? (before?.relations ?? []).filter(({ oid }) => oid < firstUsersOid) : [];
  const relationRows = await run(relationsSql(systemRelations.length > 0 ? firstUsersOid : 0));
  if (systemRelations.length + relationRows.length > limits.catalogRelationsMax) {
    throw new GatewayError("protocol.too_large", `the database has more than ${limits.catalogRelationsMax} relations`);
  }
  const named = async (sql: string) => (await run(sql)).map(qualified);
  const functions = await kept(before?.functions, ["pg_proc"], () => named(functionsSql));
  const addedFunctions = await kept(before?.addedFunctions, ["pg_proc"], () => named(addedFunctionsSql));
  const types = await kept(before?.types, ["pg_type"], () => named(typesSql));
  const rowTypes = await kept(before?.rowTypes, ["pg_attribute", "pg_type"], async () =>
    (await run(rowTypesSql)).map(([type, relation]) => ({
      typeOid: Number(textOf(type)),
      relationOid: Number(textOf(relation)),
    })),
  );
  const operators = await kept(before?.operators, ["pg_operator", "pg_proc"], async () =>
    (await run(operatorsSql)).map(operatorOf),
  );
  const schemas = await kept(before?.schemas, [], async () => (await run(schemasSql)).map(([name]) => textOf(name)));
  const relations = await withDefinitions(run, relationRows.map(relationOf), searchPath, previous);
  return new Catalog({
    relations: [...systemRelations, ...relations],
    ...{ schemas, functions, addedFunctions, types, rowTypes, operators },
    ...(encoding !== "UTF8" && { encoding }),
    searchPath,
    // Read first: what changed while the rest was read shows next time.
    signature,
  });
}

/**
 * Of columns that a snapshot lacks, those that there may be all the same. The transaction that made one holds the
 * strongest lock on its table until others see it: locks are looked at first.
 */
export async function mayBeThere(run: CatalogQuery, columns: readonly Attribute[]): Promise<ReadonlySet<string>> {
  const oids = [...new Set(columns.map(({ oid }) => oid))];
  const ofThem = `OPERATOR(pg_catalog.=) any ('{${oids.join()}}'::pg_catalog.oid[])`;
  const locks = await run(`select distinct l.relation from pg_catalog.pg_locks l
where l.mode ${equal} 'AccessExclusiveLock' and l.relation ${ofThem}`);
  const seen = await run(`select a.attrelid, a.attnum from pg_catalog.pg_attribute a
where a.attrelid ${ofThem} and not a.attisdropped`);
  const locked = new Set(locks.map(([oid]) => Number(textOf(oid))));
  return new Set([
    ...columns.filter(({ oid }) => locked.has(oid)).map(({ oid, attnum }) => attributeKey(oid, attnum)),
    ...seen.map(([oid, attnum]) => attributeKey(Number(textOf(oid)), Number(textOf(attnum)))),
  ]);
}

/** @returns whether, on the same server, no schema and nothing in these relations has changed from one signature to the other */
function unchanged(now: Signature, before: Signature | undefined): (...relations: readonly string[]) => boolean {
  const isSame = (name: string) => before !== undefined && name in before && now[name] === before[name];
  return (...relations) => ["server", "pg_namespace", ...relations].every(isSame);
}

function operatorOf([schema, name, functionSchema, functionName]: readonly (string | null)[]): CatalogOperator {
  return { schema: textOf(schema), name: textOf(name), function: `${textOf(functionSchema)}.${textOf(functionName)}` };
}

function qualified([schema, name]: readonly (string | null)[]): string {
  return `${textOf(schema)}.${textOf(name)}`;
}

/** The text of a view is asked for where it is not known from before. */
async function withDefinitions(
  run: CatalogQuery,
  relations: readonly CatalogRelation[],
  searchPath: readonly string[],
  previous: Catalog | undefined,
): Promise<CatalogRelation[]> {
  const known = (relation: CatalogRelation) => {
    const before = previous?.relationByOid(relation.oid);
    return before?.version !== undefined && before.version === relation.version ? before : undefined;
  };
  const spelledFor = definitionsPath(searchPath);
  const views = relations.filter((relation) => relation.version !== undefined && known(relation) === undefined);
  const rows = views.length === 0 ? [] : await run(definitionsSql(views.map(({ oid }) => oid)));
  const definitions = new Map(rows.map(([oid, definition]) => [Number(textOf(oid)), definition]));
  return relations.map((relation) => {
    const { version, ...rest } = relation;
    if (version === undefined) return relation;
    const before = known(relation);
    if (before !== undefined)
      return { ...relation, definition: before.definition, spelledFor: before.spelledFor ?? [] };
    const definition = definitions.get(relation.oid);
    // It is gone meanwhile: what it is, is not understood, and asked again next time.
    return definition == null ? { ...rest, definition: "" } : { ...relation, definition, spelledFor };
  });
}

export interface SessionNames {
  /** current_schemas(true) */
  readonly searchPath: readonly string[];
  readonly currentUser: string;
}

/** What of a session decides how names resolve. */
export async function loadNames(run: CatalogQuery): Promise<SessionNames> {
  const [row] = await run(pathSql);
  const [searchPath, currentUser] = read(pathShape, row?.[0]);
  return { searchPath, currentUser };
}

function relationOf(row: readonly (string | null)[]): CatalogRelation {
  const [oid, schema, name, kind, version, columns, parents, hasRules, partitionKey] = row;
  return {
    oid: Number(textOf(oid)),
    schema: textOf(schema),
    name: textOf(name),
    kind: textOf(kind),
    definition: null,
    ...(version != null && { version }),
    columns: columns == null ? [] : read(columnsShape, columns).map(columnOf),
    parents: parents == null ? [] : read(numbersShape, parents),
    ...(partitionKey != null && { partitionKey: read(numbersShape, partitionKey) }),
    ...(hasRules === "t" && { hasRules: true }),
  };
}

function columnOf(column: z.infer<typeof columnsShape>[number]): CatalogColumn {
  const [attnum, name, typeOid, typeModifier, generated] = column;
  return { attnum, name, typeOid, typeModifier, generated };
}

function textOf(value: string | null | undefined): string {
  if (value == null) throw unexpected();
  return value;
}

function read<T>(shape: z.ZodType<T>, json: string | null | undefined): T {
  try {
    return shape.parse(JSON.parse(json ?? ""));
  } catch (cause) {
    throw unexpected(cause);
  }
}

function unexpected(cause?: unknown): GatewayError {
  return new GatewayError("upstream.protocol", "the target's catalog could not be read", { cause });
}
