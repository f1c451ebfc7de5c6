/** The PostgreSQL server of the gateway in a test's own process, before a real target; what is given stands in for the rest. */

import { parseConfig } from "../../gateway/config.ts";
import { createVerifier } from "../../gateway/identity/verifier.ts";
import { createLogger } from "../../gateway/log.ts";
import type { SessionAnalyser } from "../../gateway/postgres/analysed.ts";
import { PostgresServer } from "../../gateway/postgres/server.ts";
import { Approvals } from "../../gateway/session/approvals.ts";
import type { PolicyRevision, RecordingSource, SessionStore } from "../../gateway/session/dependencies.ts";
import { Novelty } from "../../gateway/session/novelty.ts";
import { Rates } from "../../gateway/session/rates.ts";
import { asItIs } from "../session-stand-ins.ts";
import type { RunningPostgres } from "./server.ts";

export async function startServerUnderTest(options: {
  /** Served as the target "app". */
  readonly target: RunningPostgres;
  /** `identity`, and what else of the configuration the test is about. */
  readonly configuration: Readonly<Record<string, unknown>>;
  /** What the verifier takes the time to be. */
  readonly now?: () => number;
  readonly policy: PolicyRevision;
  readonly recording: RecordingSource;
  readonly store: SessionStore;
  readonly analyser: SessionAnalyser;
}): Promise<{ server: PostgresServer; port: number }> {
  const { target, configuration, now = Date.now, policy, recording, store, analyser } = options;
  process.env.SALLYPORT_TEST_PASSWORD = target.password;
  const config = parseConfig(
    JSON.stringify({
      ...configuration,
      listen: { postgres: "127.0.0.1:0" },
      policies: { bundle: "bundle.tar.gz" },
      targets: [
        {
          name: "app",
          kind: "postgres",
          address: `${target.host}:${target.port}`,
          database: target.database,
          tls: "disable",
          credential: { user: target.user, password: { env: "SALLYPORT_TEST_PASSWORD" } },
        },
      ],
    }),
    "/tmp/gateway.yaml",
  );
  const server = new PostgresServer({
    config,
    dependencies: {
      verifier: createVerifier(config.identity.issuers, { now }),
      policies: { current: () => policy },
      recording,
      store,
      log: createLogger({ level: "error" }),
      gateway: "test",
      redact: asItIs,
    },
    shared: { approvals: new Approvals(store), novelty: new Novelty(store), rates: new Rates() },
    analysers: { forSession: () => analyser },
    hashKey: Buffer.alloc(32, 7),
  });
  return { server, port: await server.listen("127.0.0.1", 0) };
}
