/** Tells operators of reloads of the policy: log lines and metrics. */
import type { Metrics } from "./api/metrics.ts";
import type { Logger } from "./log.ts";
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
