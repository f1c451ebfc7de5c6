/** Tells operators of the policy and its reloads: log lines and metrics. */
import { readFileSync } from "node:fs";
import type { Metrics } from "./api/metrics.ts";
import type { Config } from "./config.ts";
import type { Logger } from "./log.ts";
import { parseDataFile, unknownTargets } from "./policy/data.ts";
import type { PolicyHost } from "./policy/host.ts";

export function observePolicies(policies: PolicyHost, log: Logger, metrics: Metrics): void {
  const reloads = metrics.counter("sallyport_policy_reloads_total", "Looks for another policy, by what they came to.");
  metrics.observeGauge(
    "sallyport_policy_reload_failing",
    "1 while the latest look for another policy failed, and the one before it is in force.",
    () => (policies.status().lastError === undefined ? 0 : 1),
  );
  metrics.observeGauge(
    "sallyport_policy_loaded_timestamp_seconds",
    "When the policy in force came into force.",
    () => policies.status().loadedAt / 1_000,
  );
  metrics.observeGauge(
    "sallyport_policy_attempted_timestamp_seconds",
    "When another policy was last looked for.",
    () => policies.status().attemptedAt / 1_000,
  );
  const started = policies.status();
  log.info("policy in force", { revision: started.revision, source: started.source, signed_by: started.signedBy });
  if (started.lastError !== undefined) log.warn("the policy is an older copy", { error: started.lastError });
  policies.onReload((result, error) => {
    reloads.increment({ result });
    const { revision, source, signedBy } = policies.status();
    if (result === "accepted") log.info("another policy is in force", { revision, source, signed_by: signedBy });
    if (error !== undefined)
      log.error("the policy could not be reloaded; the one before stays", { result, revision, error });
  });
}

/** A warning only: one file of data may serve several gateways. */
export function warnOfUnknownTargets({ policies, targets }: Config, log: Logger): void {
  const { data: file } = policies;
  if (file === undefined) return;
  try {
    const { data, lineOf } = parseDataFile(readFileSync(file, "utf8"), file);
    for (const path of unknownTargets(data, new Set(targets.map(({ name }) => name))))
      log.warn("the policy's data names a target that the configuration does not have: is it misspelt?", {
        ...{ file, line: lineOf(path), key: path.join(".") },
        targets: targets.map(({ name }) => name),
      });
  } catch (error) {
    // It was read a moment ago; what is wrong with it now, the next reload says.
    log.warn("the policy's data could not be looked through", { file, error });
  }
}
