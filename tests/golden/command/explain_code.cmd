explain W06
