/**
 * What of Debian's packages some tests need. They are skipped, and counted as such, where a machine has node and npm
 * only; with SALLYPORT_TEST_ALL=1, as in `.ci/run`, nothing is skipped and what lacks it fails.
 */
import { existsSync } from "node:fs";

const all = process.env.SALLYPORT_TEST_ALL === "1";

/** The real psql; Debian: postgresql-client-15. */
export const hasPsql = all || Bun.which("psql") !== null;
/** Debian's PostgreSQL 15 beside the embedded 18. */
export const hasPostgres15 = all || existsSync("/usr/lib/postgresql/15/bin/initdb");

if (!hasPsql || !hasPostgres15) {
  const missing = [...(hasPsql ? [] : ["psql"]), ...(hasPostgres15 ? [] : ["PostgreSQL 15"])];
  console.warn(`Without ${missing.join(" and ")}: the tests that need it are skipped (see .ci/run for the packages).`);
}
