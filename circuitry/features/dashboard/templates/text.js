"use strict"; // the page needs no script
