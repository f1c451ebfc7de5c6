/** The only wiring: configuration, store, policy, listeners, signals. `--check` validates all of it and exits. */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { createApi } from "./api/app.ts";
import { createMetrics } from "./api/metrics.ts";
import { type ApiServer, serveApi } from "./api/serve.ts";
import { loadConfig, readBundleOption, readSecret } from "./config.ts";
import { GatewayError } from "./errors.ts";
import { createVerifier } from "./identity/verifier.ts";
import { createLogger } from "./log.ts";
import { PolicyHost } from "./policy/host.ts";
import { observePolicies, warnOfUnknownTargets } from "./policy-reports.ts";
import { Catalogs } from "./postgres/catalogs.ts";
import { PostgresServer } from "./postgres/server.ts";
import { checkReferences, readHashKey } from "./preflight.ts";
import { checkRecordings } from "./recording/open-recordings.ts";
import { chunkLines } from "./recording/reader.ts";
import { redactSecrets, redactStatement } from "./recording/redaction.ts";
import { SearchThread } from "./recording/search-thread.ts";
import { readSigningKey } from "./recording/signing-key.ts";
import { VerifyThread } from "./recording/verify-thread.ts";
import { Recording } from "./recording/writer.ts";
import { Approvals } from "./session/approvals.ts";
import type { SessionDependencies } from "./session/dependencies.ts";
import { Novelty } from "./session/novelty.ts";
import { Rates } from "./session/rates.ts";

const log = createLogger();

const usage = `Usage: bun run gateway [options]

  --config <file>    the configuration (gateway.yaml)
  --check            validate it, what it refers to, the policy and the store, and exit
  --bundle <bundle>  a path or an address, instead of policies.bundle
  --help             show this
`;

/** What signals do changes as the gateway comes up: until anything is open, a wish to stop is met at once. */
const onSignal = {
  stop: (why: string): void => {
    log.info("shutting down", { why });
    process.exit(0);
  },
  /** The policy is read again when everything is up, whatever was read before. */
  reload: (): void => {},
};
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => onSignal.stop(signal));
process.on("SIGHUP", () => onSignal.reload());

function parseLine() {
  try {
    const { values } = parseArgs({
      options: {
        config: { type: "string", default: "gateway.yaml" },
        check: { type: "boolean", default: false },
        bundle: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

async function main(): Promise<void> {
  const values = parseLine();
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  // What was not checked is not good.
  if (values.check) onSignal.stop = () => process.exit(1);
  const config = loadConfig(values.config);
  if (values.bundle !== undefined) config.policies.bundle = readBundleOption(values.bundle);
  checkReferences(config);
  const policies = await PolicyHost.load(config.policies);
  warnOfUnknownTargets(config, log);
  policies.onChange(() => warnOfUnknownTargets(config, log));
  const location = {
    url: config.store.url,
    authToken: config.store.auth_token && readSecret(config.store.auth_token, "store.auth_token"),
  };
  const { signing_key } = config.store.recording;
  if (values.check) {
    // Beside a gateway that runs: nothing is opened for writing.
    await checkRecordings(location);
    if (signing_key !== undefined) readSigningKey(signing_key);
    console.log(`configuration, policy (${policies.current().revision.digest}) and store are good`);
    process.exit(0);
  }
  // What is being opened is closed as it should be.
  let wanted: string | undefined;
  onSignal.stop = (why) => {
    wanted ??= why;
  };
  const recording = await Recording.open({
    ...location,
    durability: config.store.recording.durability,
    gateway: config.name,
    signingKey: signing_key,
  });
  const store = recording.calls;

  const verifier = createVerifier(config.identity.issuers, { log: (message, fields) => log.warn(message, fields) });
  const approvals = new Approvals(store);
  const dependencies: SessionDependencies = {
    verifier,
    policies,
    recording,
    store,
    log,
    gateway: config.name,
    redact: { statement: redactStatement, value: redactSecrets },
  };
  const server = new PostgresServer({
    config,
    dependencies,
    shared: { approvals, novelty: new Novelty(store), rates: new Rates() },
    analysers: new Catalogs(store, policies, log),
    hashKey: readHashKey(config) ?? randomBytes(32),
  });

  let api: ApiServer | undefined;
  let draining = false;
  const stop = async (why: string, failure?: GatewayError) => {
    if (draining) return;
    draining = true;
    log.info("shutting down", { why, open_sessions: server.sessions, drain_ms: config.shutdown.drain });
    await (failure ? server.drain(0, failure) : server.drain(config.shutdown.drain));
    await api?.close();
    await recording.close().catch(() => undefined);
    process.exit(failure ? 1 : 0);
  };
  onSignal.stop = (why) => void stop(why);
  if (wanted !== undefined) return await stop(wanted);
  // Without a recording nothing may run: the process ends rather than serve unrecorded.
  recording.onFailure((error) => {
    log.error("the recording failed", { error });
    void stop("recording", error);
  });

  const search = new SearchThread(location);
  const verification = new VerifyThread(location);
  const metrics = createMetrics();
  observePolicies(policies, log, metrics);
  onSignal.reload = () => void policies.reload().catch(() => undefined);
  const { http, postgres } = config.listen;
  api = http
    ? serveApi(
        createApi({
          verifier,
          store: {
            listApprovals: (query) => store.listApprovals(query),
            getApproval: (id) => store.getApproval(id),
            decideApproval: (decision) => store.decideApproval(decision),
            listSessions: (query) => store.listSessions(query),
            searchSessions: (query, text) => search.search(query, text),
            getSession: (id) => store.getSession(id),
            lines: (id, from) => chunkLines(store, id, from),
          },
          log,
          metrics,
          ready: () => ({
            ok: !draining && recording.failure === undefined,
            checks: {
              store: recording.failure ? "failed" : "ok",
              policy:
                policies.status().lastError === undefined
                  ? "ok"
                  : "the latest reload failed; the policy before it is in force",
              draining: draining ? "yes" : "no",
            },
          }),
          policyStatus: () => policies.status(),
          policyData: () => policies.current().data,
          verifySession: async (id) => ({
            ...(await verification.verify(id, recording.publicKey)),
            signatureChecked: recording.publicKey !== undefined,
          }),
          approvalDecided: (id) => approvals.wake(id),
          name: config.name,
        }),
        { host: http.host, port: http.port, ...(config.tls && { tls: config.tls }) },
      )
    : undefined;
  if (postgres) {
    const port = await server.listen(postgres.host, postgres.port);
    log.info("listening", { protocol: "postgres", host: postgres.host, port });
  }
  if (api) log.info("listening", { protocol: "http", host: api.host, port: api.port });
  await policies.watch();
}

main().catch((error: unknown) => {
  if (error instanceof GatewayError)
    console.error(error.hint === undefined ? error.message : `${error.message}\n${error.hint}`);
  else log.error("the gateway could not start", { error });
  process.exit(1);
});
