// Before anything is painted: the theme that was chosen here. A classic script, since modules wait for the page.
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage in this browser: the system's theme stands.
  }
})();
