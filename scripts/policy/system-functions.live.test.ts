/** The default lists of dangerous functions and relations, held against what a real PostgreSQL keeps from its users itself. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import { hasPostgres15 } from "../postgres/installed.ts";
import { type PostgresVersion, type RunningPostgres, startPostgres } from "../postgres/server.ts";
import { policiesFolder, sourceData } from "./sources.ts";

const { dangerous } = sourceData(policiesFolder) as { dangerous: Record<string, readonly string[]> };
const globs = (...lists: string[]) => lists.flatMap((list) => dangerous[list] ?? []).map((one) => new Bun.Glob(one));
const covers = (patterns: readonly Bun.Glob[], name: string) => patterns.some((one) => one.match(name));
const [functions, relations] = [globs("functions"), globs("relations", "secrets")];

/** They read the server's own figures, and change nothing. */
const tellOnly = [
  ...["pg_config", "pg_current_logfile", "pg_get_aios", "pg_get_backend_memory_contexts"],
  ...["pg_get_shmem_allocations", "pg_get_shmem_allocations_numa", "pg_show_replication_origin_status"],
  "pg_stat_have_stats",
];
/** They read no more than what they are given. */
const ofArguments = ["pg_mcv_list_items", "pg_options_to_table", "unnest"];

describe.each<[string, PostgresVersion]>([
  ["18", "embedded"],
  ["15", "15"],
])("PostgreSQL %s", (_, version) => {
  describe.skipIf(version === "15" && !hasPostgres15)("the default lists", () => {
    let server: RunningPostgres;
    let sql: postgres.Sql;
    beforeAll(async () => {
      server = await startPostgres({ version });
      const { host, port, user, password, database } = server;
      sql = postgres({ host, port, username: user, password, database, max: 1, fetch_types: false });
    }, 60_000);
    afterAll(async () => {
      await sql?.end();
      await server?.stop();
    });

    test("refuse every function that PostgreSQL lets nobody call unasked, but those that only tell", async () => {
      const kept = await sql<{ name: string }[]>`
        select distinct proname as name from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and proacl is not null
          and not exists (select 1 from aclexplode(proacl) where grantee = 0)
        order by 1`;
      expect(kept.map(({ name }) => name)).toContain("pg_read_file");
      const open = kept.map(({ name }) => name).filter((name) => !covers(functions, `pg_catalog.${name}`));
      expect(open.filter((name) => !tellOnly.includes(name))).toEqual([]);
    });

    test("refuse the functions that a refused view is made of, too", async () => {
      const views = await sql<{ name: string; definition: string }[]>`
        select n.nspname || '.' || c.relname as name, pg_get_viewdef(c.oid) as definition
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'v' and n.nspname in ('pg_catalog', 'information_schema')`;
      const refused = views.filter(({ name }) => covers(relations, name));
      const called = refused.flatMap(({ definition }) =>
        [...definition.matchAll(/\b(?:FROM|JOIN|LATERAL)\s+\(*(\w+)\(/g)].map(([, name = ""]) => name),
      );
      expect(called).toContain("pg_stat_get_activity");
      const open = called.filter((name) => !covers(functions, `pg_catalog.${name}`));
      expect(open.filter((name) => !ofArguments.includes(name))).toEqual([]);
    });
  });
});
