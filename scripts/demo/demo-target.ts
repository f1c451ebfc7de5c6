/** What tests of a whole gateway stand on: a PostgreSQL with the demo's tables, and people with their tokens. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import { type RunningPostgres, startPostgres } from "../postgres/server.ts";
import { type DemoUser, startIdentityProvider } from "./identity-provider.ts";

export interface DemoTarget {
  readonly server: RunningPostgres;
  /** One connection to it, past every gateway, as its superuser. */
  readonly direct: postgres.Sql;
  readonly issuer: string;
  /** ID tokens, by the user's id. */
  readonly tokens: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

export async function startDemoTarget(users: readonly DemoUser[]): Promise<DemoTarget> {
  const server = await startPostgres();
  const { host, port, user: username, password, database } = server;
  const direct = postgres({ host, port, username, password, database, onnotice: () => undefined, max: 1 });
  await direct.unsafe(readFileSync(resolve(import.meta.dir, "../../fixtures/demo/schema.sql"), "utf8"));
  const provider = await startIdentityProvider({ users });
  const tokens: Record<string, string> = {};
  for (const { id } of users) tokens[id] = await provider.mint(id);
  return {
    ...{ server, direct, issuer: provider.issuer, tokens },
    async stop() {
      await direct.end({ timeout: 1 });
      await provider.stop();
      await server.stop();
    },
  };
}
