// Loaded before the page is drawn: the chosen theme, so that it does not flash.
document.documentElement.dataset.theme = localStorage.getItem("sor-ppa theme") ?? "system";
