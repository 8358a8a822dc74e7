window.seen = [];
addEventListener("error", (e) => seen.push("error: " + (e.message || e.target.outerHTML)), true);
addEventListener("unhandledrejection", (e) => seen.push("rejection: " + e.reason));
addEventListener("securitypolicyviolation", (e) => seen.push("blocked: " + e.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...what) => seen.push(level + ": " + what.join(" "));
